// What: takes captions of the concept to the anchor, moving only the weights that the concept needs
// Paper: Fan, Liu, Zhang, Wong, Wei, Liu, "SalUn: Empowering Machine Unlearning via Gradient-based
//   Weight Saliency in Both Image Classification and Generation", ICLR 2024, arXiv 2310.12508
// Equation: mask: the largest |sum grad_W ||eps - (1 + s) eps_W(x_t, c_f) + s eps_W(x_t, 0)||^2|
//   over pictures of the concept; over those weights min ||eps_W(x_t, c_f) - sg eps_W(x_t, c_a)||^2
//   + a ||eps - eps_W(x_t, c_r)||^2, x_t from pictures of the concept and of what remains
// Reference: OPTML-Group/Unlearn-Saliency @ 47377e3, SD/train-scripts/nsfw_removal.py,
//   generate_mask.py @ 2b0a8a1
// Deviations: the mask takes the largest gradients, as the paper says; generate_mask.py ranks them
//   in ascending order and keeps the smallest half (`mask: released`); what remains are preserved
//   names, where the reference takes the anchor's pictures; norms stay as they are
// Needs: known names, anchor and preserved names; the unmodified model's pictures of the concept
//   and of preserved names
// Caveats: defaults are reduced for the emoji backbone; preset "paper" is for nudity
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/mse_loss.h>

#include "methods/captioned_pictures.h"
#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "models/tensors/autograd.h"
#include "training/diffusion.h"
#include "training/guided.h"
#include "training/saliency.h"

namespace excise {
namespace {

class Salun : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    tuning_.Fields(v);
    v.Choice("mask", &mask_,
             "weights that may move: those with the largest gradients, with the smallest (as "
             "released), or all",
             {"largest", "released", "all"});
    v.Number("fraction", &fraction_, "share of the weights in the mask", {.min = 1e-6, .max = 1});
    v.Number("mask_guidance", &mask_guidance_, "guidance scale of the mask's gradients, less 1 (s)",
             {.min = 0});
    v.Number("remain", &remain_, "weight of what remains (a)", {.min = 0});
    v.Integer("pictures", &pictures_,
              "prompts of the concept, and of preserved names, with a picture each",
              {.min = 1, .max = 1000});
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names", "anchor", "preserve", "target_images"}, true, ""};
    traits.prompts = {{"target", pictures_}, {"preserve", pictures_}};
    traits.base_pictures = traits.seeded = true;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"layers", "full"},
              {"mask", "largest"},
              {"fraction", 0.5},
              {"mask_guidance", 7.5},
              {"remain", 0.1},
              {"lr", 1e-5},
              {"pictures", 800},
              {"iterations", 100},
              {"batch", 8}}},
            {"smoke", {{"pictures", 2}, {"iterations", 8}, {"batch", 2}}}};
  }
  SearchSpace search_space() const override {
    return {{"layers", {"x", "full"}},
            {"fraction", {0.1, 0.5}},
            {"remain", {0.1, 1, 5}},
            {"lr", {5e-5, 1e-4, 2e-4, 4e-4}},
            {"iterations", {75, 150, 300}}};
  }
  Work work() const override {
    const auto pictures = static_cast<double>(pictures_);
    Work work = {{Pass::kPicture, 1, 2 * pictures},
                 tuning_.Evaluations(),
                 tuning_.Gradients(remain_ > 0 ? 2 : 1)};
    if (mask_ != "all") work.push_back({Pass::kUNetGradient, pictures, 2});
    return work;
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const CaptionedPictures targets = DrawCaptioned(context, base, concepts, "target", pictures_);
    const CaptionedPictures kept = DrawCaptioned(context, base, concepts, "preserve", pictures_);
    const at::Tensor anchors = StatesWithAnchor(base, targets);
    TrainSpec spec = tuning_.Spec(context, "salun");
    if (mask_ != "all") spec.mask = Mask(context, base, targets);
    const auto draw = [&](const CaptionedPictures& pictures, const char* stream, int64_t step) {
      return DrawNoisedRows(base.scheduler, pictures.latents,
                            context.Rng(stream, static_cast<uint64_t>(step)), step, tuning_.batch);
    };
    const auto predict = [&](const StateDict& unet, const NoisedRows& at,
                             const at::Tensor& states) {
      return UNetForward(base.unet_config, unet, at.noised, at.timesteps,
                         states.index_select(0, at.rows));
    };
    const auto loss = [&](const StateDict& unet, int64_t step, int64_t) {
      const NoisedRows forget = draw(targets, "salun/forget", step);
      at::Tensor pseudo;
      {
        const NoGrad no_grad;
        pseudo = predict(unet, forget, anchors);
      }
      const at::Tensor sum = at::mse_loss(predict(unet, forget, targets.states), pseudo);
      if (remain_ == 0) return sum;
      const NoisedRows remain = draw(kept, "salun/remain", step);
      return sum + remain_ * at::mse_loss(predict(unet, remain, kept.states), remain.target);
    };
    return tuning_.Train(context, base, spec, /*passes=*/remain_ > 0 ? 3 : 2, loss);
  }

 private:
  StateDict Mask(Context& context, const Backbone& base, const CaptionedPictures& targets) const {
    const std::vector<std::string> names = UNetLayers(base.unet, tuning_.layers);
    const at::Tensor empty = EncodeTexts(base, {""});
    const int64_t pictures = targets.latents.size(0);
    const StateDict gradients =
        MeanGradients(base.unet, names, pictures, [&](const StateDict& unet, int64_t sample) {
          const NoisedRows one =
              DrawNoisedRows(base.scheduler, targets.latents.narrow(0, sample, 1),
                             context.Rng("salun/mask", static_cast<uint64_t>(sample)), sample, 1);
          const auto predict = [&](const at::Tensor& states) {
            return UNetForward(base.unet_config, unet, one.noised, one.timesteps, states);
          };
          const at::Tensor with = predict(targets.states.narrow(0, sample, 1));
          return at::mse_loss(GuidedPrediction(predict(empty), with, 1 + mask_guidance_),
                              one.target);
        });
    context.CountGradientSteps(pictures);
    context.CountUnetEvaluations(2 * pictures);
    if (mask_ == "largest") return LargestMask(gradients, fraction_);
    StateDict smallest;
    for (const auto& [name, large] : LargestMask(gradients, 1 - fraction_)) {
      smallest.Set(name, large.logical_not());
    }
    return smallest;
  }

  FineTuning tuning_ = {.layers = "full", .optimizer = "adam", .weight_decay = 0};
  std::string mask_ = "largest";
  double fraction_ = 0.5, mask_guidance_ = 7.5, remain_ = 1;
  int64_t pictures_ = 32;
};

const Registration<Method, Salun> registration;

}  // namespace
}  // namespace excise
