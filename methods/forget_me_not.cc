// What: fine-tunes the U-Net until nothing in the picture attends to the concept's name
// Paper: Zhang, Wang, Xu, Wang, Shi, "Forget-Me-Not: Learning to Forget in Text-to-Image Diffusion
//   Models", CVPR workshops 2024, arXiv 2303.17591
// Equation: min_W || A_W(x_t, c) at the tokens of the name ||_2, A: the cross-attention
//   probabilities of all layers, heads and pixels; x_t from a picture of the concept, noised
// Reference: SHI-Labs/Forget-Me-Not @ 2767849, src/train_attn.py
// Deviations: captions are prompts of the erase split with the unmodified model's picture, where
//   the reference takes "a photo of NAME" and the user's pictures; no textual inversion beforehand;
//   a gradient step sees one caption, with several noises of its picture; norms stay as they are
// Needs: known names; the unmodified model's pictures for prompts with them
// Caveats: attention moves to other tokens, which encode the name, too: `end_token` takes the end
//   token along; defaults are reduced for the emoji backbone
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>

#include "core/error.h"
#include "methods/captioned_pictures.h"
#include "methods/fine_tuning.h"
#include "models/nets/attention_maps.h"
#include "training/diffusion.h"

namespace excise {
namespace {

class ForgetMeNot : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    tuning_.Fields(v);
    v.Integer("pictures", &pictures_, "prompts of the concept, with a picture each",
              {.min = 1, .max = 1000});
    v.Flag("end_token", &end_token_, "whether the end token's probabilities count, too");
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names", "target_images"}, true, ""};
    traits.prompts = {{"target", pictures_}};
    traits.base_pictures = traits.seeded = true;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"layers", "full"},
              {"lr", 2e-6},
              {"weight_decay", 0.01},
              {"pictures", 8},
              {"iterations", 35},
              {"batch", 1},
              {"end_token", false}}},
            {"smoke", {{"pictures", 2}, {"iterations", 8}, {"batch", 2}}}};
  }
  SearchSpace search_space() const override {
    return {{"layers", {"x", "full"}},
            {"lr", {3e-5, 1e-4, 3e-4, 1e-3}},
            {"iterations", {35, 75, 150}},
            {"end_token", {false, true}}};
  }
  Work work() const override {
    return {{Pass::kPicture, 1, static_cast<double>(pictures_)}, tuning_.Gradients()};
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override {
    const CaptionedPictures pictures = DrawCaptioned(context, base, concepts, "target", pictures_);
    const std::vector<NamedCaption> named = NamedCaptions(base, pictures, end_token_);
    const auto loss = [&](const StateDict& unet, int64_t step, int64_t) {
      Philox rng = context.Rng("forget_me_not/pictures", static_cast<uint64_t>(step));
      const NamedCaption& one = named[rng.Below(named.size())];
      const NoisedRows drawn = DrawNoisedRows(
          base.scheduler, pictures.latents.narrow(0, one.row, 1), rng, step, tuning_.batch);
      AttentionMaps maps(one.positions);
      UNetForward(base.unet_config, unet, drawn.noised, drawn.timesteps,
                  pictures.states.narrow(0, one.row, 1).expand({tuning_.batch, -1, -1}), &maps);
      std::vector<at::Tensor> all;
      for (const auto& [layer, map] : maps.layers()) all.push_back(map.flatten());
      return at::cat(all).norm();
    };
    TrainSpec spec = tuning_.Spec(context, "forget_me_not");
    spec.some_without_gradient = true;  // what comes after the last attention's probabilities
    return tuning_.Train(context, base, spec, /*passes=*/1, loss);
  }

 private:
  FineTuning tuning_ = {.lr = 3e-4, .iterations = 75};
  int64_t pictures_ = 32;
  bool end_token_ = false;
};

const Registration<Method, ForgetMeNot> registration;

}  // namespace
}  // namespace excise
