// What: fine-tunes the U-Net until captions with a name draw what captions with the anchor draw
// Paper: Kumari, Zhang, Wang, Shechtman, Zhang, Zhu, "Ablating Concepts in Text-to-Image Diffusion
//   Models", ICCV 2023, arXiv 2303.13516
// Equation: x_t from a picture of a caption c with the anchor, c* = c with the name in its place;
//   model: min_W ||eps_W(x_t, c*, t) - sg eps_W(x_t, c, t)||^2; noise: min_W ||eps_W(x_t, c*, t) -
//   eps||^2; and p ||eps_W(x_t, c, t) - eps||^2 where the anchor is to be kept
// Reference: nupurkmr9/concept-ablation @ 045c6f7, diffusers/train.py
// Deviations: pictures are not scaled and cropped at random, so no mask is needed; a caption that
//   does not hold the anchor's words (a style's) gets the name behind it, as the reference's styles
// Needs: known names, anchor; the unmodified model's pictures for prompts of the anchor
// Caveats: defaults are reduced for the emoji backbone; preset "paper": 200 steps on one GPU, at
//   the rate that the reference scales to it (2e-6 times the batch); "nudity" trains all attention
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/mse_loss.h>

#include "methods/captioned_pictures.h"
#include "methods/fine_tuning.h"
#include "models/tensors/autograd.h"
#include "training/diffusion.h"

namespace excise {
namespace {

class ConceptAblation : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("variant", &variant_,
             "what captions with the name are taught: the model's own answer "
             "to the anchor's, or the noise of its picture",
             {"model", "noise"});
    tuning_.Fields(v);
    v.Integer("pictures", &pictures_, "prompts of the anchor, with a picture each",
              {.min = 1, .max = 1000});
    v.Number("prior", &prior_, "weight of the anchor's own denoising (p)", {.min = 0});
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names", "anchor"}, true, ""};
    traits.prompts = {{"anchor", pictures_}};
    traits.base_pictures = traits.seeded = true;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    const Json paper = {
        {"variant", "model"}, {"layers", "x_strict"}, {"lr", 8e-6}, {"weight_decay", 0.01},
        {"pictures", 200},    {"iterations", 200},    {"batch", 4}, {"prior", 0}};
    Json nudity = paper;
    nudity.update({{"layers", "attention"}, {"lr", 1.6e-5}, {"iterations", 800}, {"prior", 1}});
    return {{"paper", paper},
            {"nudity", nudity},
            {"smoke", {{"pictures", 2}, {"iterations", 8}, {"batch", 2}}}};
  }
  SearchSpace search_space() const override {
    return {{"variant", {"model", "noise"}},
            {"layers", {"x_strict", "x", "full"}},
            {"lr", {5e-5, 1e-4, 2e-4, 4e-4}},
            {"iterations", {75, 150, 300}}};
  }
  Work work() const override {
    Work work = {{Pass::kPicture, 1, static_cast<double>(pictures_)},
                 tuning_.Gradients(prior_ > 0 ? 2 : 1)};
    if (variant_ == "model") work.push_back(tuning_.Evaluations());
    return work;
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const CaptionedPictures anchors = DrawCaptioned(context, base, concepts, "anchor", pictures_);
    const at::Tensor named = StatesWithNames(base, anchors);
    TrainSpec spec = tuning_.Spec(context, "concept_ablation");
    spec.clip_norm = 1;
    const int64_t passes = 1 + (prior_ > 0 ? 1 : 0) + (variant_ == "model" ? 1 : 0);
    return tuning_.Train(context, base, spec, passes,
                         [&](const StateDict& unet, int64_t step, int64_t) {
                           return Loss(context, base, anchors, named, unet, step);
                         });
  }

 private:
  at::Tensor Loss(Context& context, const Backbone& base, const CaptionedPictures& anchors,
                  const at::Tensor& named, const StateDict& unet, int64_t step) const {
    const NoisedRows drawn = DrawNoisedRows(
        base.scheduler, anchors.latents,
        context.Rng("concept_ablation/pictures", static_cast<uint64_t>(step)), step, tuning_.batch);
    const auto predict = [&](const at::Tensor& states) {
      return UNetForward(base.unet_config, unet, drawn.noised, drawn.timesteps,
                         states.index_select(0, drawn.rows));
    };
    at::Tensor target = drawn.target;
    if (variant_ == "model") {
      const NoGrad no_grad;
      target = predict(anchors.states);
    }
    const at::Tensor loss = at::mse_loss(predict(named), target);
    if (prior_ == 0) return loss;
    return loss + prior_ * at::mse_loss(predict(anchors.states), drawn.target);
  }

  std::string variant_ = "model";
  FineTuning tuning_;
  int64_t pictures_ = 32;
  double prior_ = 0;
};

const Registration<Method, ConceptAblation> registration;

}  // namespace
}  // namespace excise
