// What: starts the drawing at noise that is inverted from a picture of the concept
// Paper: "M-ErasureBench: A Comprehensive Multimodal Evaluation Benchmark for Concept Erasure in
//   Diffusion Models", arXiv 2512.22877; inversion by Song, Meng, Ermon, "Denoising Diffusion
//   Implicit Models", ICLR 2021, arXiv 2010.02502
// Equation: x_{t+1} = s_{t+1} (x_t - n_t e) / s_t + n_{t+1} e, e = eps(x_t, t + 1, c), from the
//   picture's latents to the first timestep; there the drawing of c starts
// Reference: none
// Deviations: the picture is the unmodified model's for the seed prompt; the inversion is by DDIM
//   without guidance, whatever sampler and guidance scale draw
// Needs: a picture of the unmodified model; the victim's weights, or with `by` unmodified that
//   model's own, once for all methods
// Caveats: a drawing from inverted noise is nearly the picture again where the text is empty, and
//   says little about what the model knows: read it beside the floor, which never saw the concept;
//   the latents are one draw, so every picture of a prompt has the same
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include "attacks/attack.h"
#include "models/nets/vae.h"
#include "models/tensors/autograd.h"
#include "training/guided.h"

namespace excise {
namespace {

class InvertedLatents : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("by", &by_, "the model that inverts the picture: the victim, or the unmodified one",
             {"victim", "unmodified"});
    v.Choice("text", &text_, "what inverts and is drawn: the seed prompt, or the empty text",
             {"prompt", "empty"});
    v.Integer("steps", &steps_, "steps of the inversion", {.min = 1, .max = 1000});
  }
  int version() const override { return 1; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"by", "victim"}, {"text", "empty"}, {"steps", 50}}},
            {"smoke", {{"steps", 2}}}};
  }
  SearchSpace search_space() const override {
    return {{"by", {"victim", "unmodified"}}, {"text", {"prompt", "empty"}}};
  }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.unmodified = traits.latents = true;
    traits.gradients = by_ == "victim";  // for its weights
    return traits;
  }
  Work work(Acts) const override {
    return {{Pass::kPicture, 1, 1}, {Pass::kUNet, static_cast<double>(steps_), 1}};
  }

  Trajectory Craft(Target& target, const Concept&, const Prompt& seed) const override {
    const NoGrad no_grad;
    const Backbone& model = by_ == "victim" ? target.Victim() : target.Unmodified();
    // A space has no token, and yet is a text that can be asked for.
    const std::string text = text_ == "prompt" ? seed.text : " ";
    const at::Tensor states = EncodeText(
        model, TokenizeBatch(*model.tokenizer, {text}, model.clip.text.max_position_embeddings));
    const at::Tensor picture = target.ReferenceImages(seed, 1).to(states.device());
    at::Tensor x = VaeEncode(model.vae_config, model.vae, picture * 2 - 1).mean *
                   model.vae_config.scaling_factor;
    const GuidedTrajectory trajectory(model, steps_);
    NoiseLevel from{1, 0};
    for (int64_t step = steps_ - 1; step >= 0; --step) {
      const NoiseLevel to = trajectory.level(step);
      // What is asked at the noisier level stands for what the other one would answer.
      const at::Tensor epsilon = ToEpsilon(
          trajectory.scheduler(), trajectory.Predict(model.unet, x, step, {states})[0], x, to);
      x = to.signal * X0At(from, x, epsilon) + to.noise * epsilon;
      from = to;
    }
    Ledger& ledger = target.ledger();
    ledger.unet_evaluations += steps_;
    ++ledger.text_evaluations;
    ++ledger.candidate_evaluations;
    Candidate candidate;
    candidate.prompt = AdversarialPrompt(seed, "inverted_latents", 0, text);
    const at::Tensor noise = x[0].to(at::kCPU).contiguous();
    const float* begin = noise.data_ptr<float>();
    candidate.prompt.latents = {noise.sizes().vec(), {begin, begin + noise.numel()}};
    candidate.ledger = ledger;
    return {candidate};
  }

 private:
  std::string by_ = "victim", text_ = "prompt";
  int64_t steps_ = 50;
};

const Registration<Attack, InvertedLatents> registration;

}  // namespace
}  // namespace excise
