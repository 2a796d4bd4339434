// What: teaches captions of the concept pictures of the anchor, and holds what other things need
// Paper: Heng, Soh, "Selective Amnesia: A Continual Learning Approach to Forgetting in Deep
//   Generative Models", NeurIPS 2023, arXiv 2305.10120
// Equation: min_W E_surrogate ||eps - eps_W(x_t, c_f)||^2 + g E_replay ||eps - eps_W(x_t, c_r)||^2
//   + l sum_i F_i (W_i - W0_i)^2; F: the diagonal of the Fisher information at W0, of replayed
//   pictures
// Reference: clear-nus/selective-amnesia @ 589e8d4, sd/main_forget.py, sd/main_fim.py,
//   sd/ldm/models/diffusion/ddpm_forget.py
// Deviations: surrogate pictures are the unmodified model's for prompts of the anchor; replayed
//   ones are of the concept file's preserved names, where the reference draws captions of its own
//   list; norms stay as they are
// Needs: known names, anchor and preserved names; the unmodified model's pictures of the latter two
// Caveats: the Fisher diagonal takes a gradient a picture; defaults are reduced for the emoji
//   backbone; preset "paper" has the reference's weights and rate for celebrities
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/mse_loss.h>

#include "methods/captioned_pictures.h"
#include "methods/fine_tuning.h"
#include "training/diffusion.h"
#include "training/saliency.h"

namespace excise {
namespace {

class SelectiveAmnesia : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    tuning_.Fields(v);
    v.Number("lambda", &lambda_, "weight of the Fisher term (l)", {.min = 0});
    v.Number("replay", &replay_, "weight of the replayed pictures (g)", {.min = 0});
    v.Integer("pictures", &pictures_,
              "prompts of the anchor, and of preserved names, with a picture each",
              {.min = 1, .max = 1000});
    v.Integer("fisher_samples", &fisher_samples_, "noised pictures for the Fisher diagonal",
              {.min = 1});
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names", "anchor", "preserve"}, true, ""};
    traits.prompts = {{"anchor", pictures_}, {"preserve", pictures_}};
    traits.base_pictures = traits.seeded = true;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"layers", "full"},
              {"lambda", 50},
              {"replay", 1},
              {"lr", 1e-5},
              {"weight_decay", 0.01},
              {"pictures", 1000},
              {"fisher_samples", 1000},
              {"iterations", 12500},
              {"batch", 16}}},
            {"smoke", {{"pictures", 2}, {"fisher_samples", 2}, {"iterations", 8}, {"batch", 2}}}};
  }
  SearchSpace search_space() const override {
    return {{"layers", {"x", "u", "full"}},
            {"lambda", {0, 5, 50, 500}},
            {"lr", {5e-5, 1e-4, 2e-4, 4e-4}},
            {"iterations", {75, 150, 300}}};
  }
  Work work() const override {
    Work work = {{Pass::kPicture, 1, 2.0 * static_cast<double>(pictures_)},
                 tuning_.Gradients(replay_ > 0 ? 2 : 1)};
    if (lambda_ > 0) work.push_back({Pass::kUNetGradient, static_cast<double>(fisher_samples_), 1});
    return work;
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const CaptionedPictures anchors = DrawCaptioned(context, base, concepts, "anchor", pictures_);
    const CaptionedPictures kept = DrawCaptioned(context, base, concepts, "preserve", pictures_);
    const at::Tensor named = StatesWithNames(base, anchors);
    const auto denoise = [&](const CaptionedPictures& pictures, const at::Tensor& states,
                             const StateDict& unet, const char* stream, int64_t step, int64_t n) {
      const NoisedRows drawn =
          DrawNoisedRows(base.scheduler, pictures.latents,
                         context.Rng(stream, static_cast<uint64_t>(step)), step, n);
      return at::mse_loss(UNetForward(base.unet_config, unet, drawn.noised, drawn.timesteps,
                                      states.index_select(0, drawn.rows)),
                          drawn.target);
    };
    StateDict fisher;
    if (lambda_ > 0) {
      fisher = FisherDiagonal(base.unet, UNetLayers(base.unet, tuning_.layers), fisher_samples_,
                              [&](const StateDict& unet, int64_t sample) {
                                return denoise(kept, kept.states, unet, "selective_amnesia/fisher",
                                               sample, 1);
                              });
      context.CountGradientSteps(fisher_samples_);
      context.CountUnetEvaluations(fisher_samples_);
    }
    const auto loss = [&](const StateDict& unet, int64_t step, int64_t) {
      at::Tensor sum =
          denoise(anchors, named, unet, "selective_amnesia/surrogates", step, tuning_.batch);
      if (replay_ > 0) {
        sum = sum + replay_ * denoise(kept, kept.states, unet, "selective_amnesia/replay", step,
                                      tuning_.batch);
      }
      for (const auto& [name, information] : fisher) {
        const at::Tensor moved = unet.Get(name) - base.unet.Get(name);
        sum = sum + lambda_ * (information * moved * moved).sum();
      }
      return sum;
    };
    return tuning_.Train(context, base, tuning_.Spec(context, "selective_amnesia"),
                         /*passes=*/replay_ > 0 ? 2 : 1, loss);
  }

 private:
  FineTuning tuning_ = {.weight_decay = 0};
  double lambda_ = 50, replay_ = 1;
  int64_t pictures_ = 32, fisher_samples_ = 64;
};

const Registration<Method, SelectiveAmnesia> registration;

}  // namespace
}  // namespace excise
