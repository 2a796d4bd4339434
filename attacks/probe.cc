// What: the prompt drawn with noise added at every step, or from a noised picture of the concept
// Paper: Lu, Kriplani, Gandikota, Pham, Bau, Hegde, Cohen, "When Are Concepts Erased from Diffusion
//   Models?", NeurIPS 2025, arXiv 2505.17013: noise-based probing and diffusion completion
// Equation: noise: x <- x + s d z after each step but the last, z normal, d what DDPM adds there;
//   completion: x_k = signal_k x0 + noise_k z, drawn from step k on; the best of `tries` s or k
// Reference: kevinlu4588/WhenAreConceptsErased @ 9a03e07, src/probes/noise_based_probe.py,
//   src/probes/diffusion_completion_probe.py, src/configs/default.yaml
// Deviations: noise comes on top of what any sampler does (the reference's DDIM shrinks its
//   direction by eta, and has variance_scales of 1 to 1.04 besides); the search ends at the first
//   success; x0 is the unmodified model's finished picture, noised by the prompt's own noise, where
//   the reference hands over that model's latents after a few steps. Of the paper's other probes,
//   textual inversion is cce; classifier guidance and inpainting are not here
// Needs: answers of the oracle, the first one for the prompt drawn plainly; completion: the number
//   of steps and a picture of the unmodified model; a scheduler other than pndm
// Caveats: the later a completion starts, the more is given, whatever the model knows: read it
//   beside the floor, which never saw the concept. What luck finds is what seed_search finds in as
//   many tries. Starts that come to the same step are asked once
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "attacks/blind_search.h"
#include "core/error.h"
#include "models/nets/vae.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

// Latents of the unmodified model's picture for `seed`, as PromptDrawing::first_step takes them.
NpyArray PictureOf(Target& target, const Prompt& seed) {
  const NoGrad no_grad;
  const Backbone& model = target.Unmodified();
  const at::Tensor picture = target.ReferenceImages(seed, 1);
  const at::Tensor input = (picture * 2 - 1).to(model.vae.Get("encoder.conv_in.weight").device());
  const at::Tensor mean = VaeEncode(model.vae_config, model.vae, input).mean[0];
  const at::Tensor x0 = (mean * model.vae_config.scaling_factor).to(at::kCPU).contiguous();
  const float* begin = x0.data_ptr<float>();
  return {x0.sizes().vec(), {begin, begin + x0.numel()}};
}

class Probe : public BlindSearch {
 public:
  Probe() {
    tries_ = 6;
    lanes_ = 1;  // a pass draws in one way
  }
  void Fields(ParamVisitor& v) override {
    v.Choice("kind", &kind_, "more noise at every step, or a noised picture that is completed",
             {"noise", "completion"});
    TriesField(v, "ways to draw, evenly spaced, each followed by a question to the oracle");
    v.Number("noise_scale", &noise_scale_, "noise of the first try, times what DDPM adds",
             {.min = 0.001, .max = 100});
    v.Number("most_noise", &most_noise_, "noise of the last try", {.min = 0.001, .max = 100});
    v.Number("start", &start_, "share of the steps that the first try skips, at least one step",
             {.min = 0, .max = 1});
    v.Number("most_start", &most_start_, "share that the last try skips; at least one step is left",
             {.min = 0, .max = 1});
  }
  int version() const override { return 1; }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"kind", "noise"},
              {"tries", 6},
              {"noise_scale", 1.0},
              {"most_noise", 1.85},
              {"start", 0.02},
              {"most_start", 0.06}}},
            {"smoke", {{"tries", 2}}}};
  }
  SearchSpace search_space() const override {
    return {{"kind", {"noise", "completion"}},
            {"most_noise", {1.5, 1.85, 3.0}},
            {"most_start", {0.25, 0.5}}};
  }
  AttackTraits traits() const override {
    AttackTraits traits = BlindSearch::traits();
    traits.drawing = true;
    traits.latents = kind_ == "completion";
    return traits;
  }
  Work work(Acts victim) const override {
    Work work = BlindSearch::work(victim);
    if (kind_ == "completion") work.push_back({Pass::kPicture, 1, 1});
    return work;
  }

 protected:
  Draw Drawer(const Backbone&, const Concept&) const override {
    // One of each lane, for all of its tries.
    const auto pictures = std::make_shared<std::map<const Target*, NpyArray>>();
    return [this, pictures](const BlindTry& one) {
      Prompt prompt = AdversarialPrompt(one.seed, "probe", one.index, one.seed.text);
      if (kind_ == "noise") {
        prompt.drawing.noise_scale = At(noise_scale_, most_noise_, one.round);
        return prompt;
      }
      const int64_t steps = one.target.Sampling().steps;
      if (steps < 2) {
        throw UsageError("probe: kind=completion skips steps, and pictures are drawn in one.");
      }
      const double skipped = At(start_, most_start_, one.round) * static_cast<double>(steps);
      prompt.drawing.first_step = std::clamp<int64_t>(std::llround(skipped), 1, steps - 1);
      NpyArray& picture = (*pictures)[&one.target];
      if (picture.values.empty()) picture = PictureOf(one.target, one.seed);
      prompt.latents = picture;
      return prompt;
    };
  }

 private:
  // What the try `round` takes between `first` and `last`.
  double At(double first, double last, int64_t round) const {
    if (tries_ == 1) return first;
    return first + (last - first) * static_cast<double>(round) / static_cast<double>(tries_ - 1);
  }

  std::string kind_ = "noise";
  double noise_scale_ = 1, most_noise_ = 1.85;
  double start_ = 0.1, most_start_ = 0.5;
};

const Registration<Attack, Probe> registration;

}  // namespace
}  // namespace excise
