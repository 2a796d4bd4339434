// Two gradient steps against the paper's formula, with AdamW by hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "methods/captioned_pictures.h"
#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"
#include "training/diffusion.h"

namespace excise {
namespace {

Erased Erase(const Backbone& base, const Json& params, TinyContext* context) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("concept_ablation");
  DecodeParams(params, *method, "test");
  return method->Erase(*context, base, {TinyConcept()});
}

}  // namespace

TEST_CASE("concept_ablation: two steps are AdamW's on the paper's losses") {
  const Backbone base = TinyBackbone();
  const at::Tensor named = EncodeTexts(base, {"a picture of a poodle"});
  const at::Tensor anchor = EncodeTexts(base, {"a picture of a dog"});
  for (const std::string variant : {"model", "noise"}) {
    for (const double prior : {0.0, 0.5}) {
      INFO(variant << ", prior " << prior);
      TinyContext context, again;
      const Erased erased = Erase(base,
                                  {{"variant", variant},
                                   {"layers", "x_strict"},
                                   {"iterations", 2},
                                   {"batch", 3},
                                   {"lr", 1e-4},
                                   {"weight_decay", 0.1},
                                   {"prior", prior}},
                                  &context);
      const at::Tensor latents = again.Latents({"a picture of a dog"});
      const auto loss = [&](const StateDict& unet, int64_t step) {
        const NoisedRows drawn = DrawNoisedRows(
            base.scheduler, latents,
            again.Rng("concept_ablation/pictures", static_cast<uint64_t>(step)), step, 3);
        const auto predict = [&](const at::Tensor& states) {
          return UNetForward(base.unet_config, unet, drawn.noised, drawn.timesteps,
                             states.expand({3, -1, -1}));
        };
        const at::Tensor target = variant == "model" ? predict(anchor).detach() : drawn.target;
        return (predict(named) - target).square().mean() +
               prior * (predict(anchor) - drawn.target).square().mean();
      };
      // The reference clips gradients at 1; those of the tiny model are shorter.
      const StateDict expected =
          AdamWByHand(base.unet, UNetLayers(base.unet, "x_strict"), 2, 1e-4, 0.1, loss);
      REQUIRE(erased.unet.size() > 0);
      CHECK(FurthestApart(erased.unet, base.unet) > 1e-4);
      CHECK(FurthestApart(erased.unet, expected) < 2e-6);
      CHECK(context.gradient_steps == 2);
      const int64_t passes = 1 + (variant == "model" ? 1 : 0) + (prior > 0 ? 1 : 0);
      CHECK(context.unet_evaluations == passes * 2 * 3);
    }
  }
}

TEST_CASE("concept_ablation: captions with a name are answered as the anchor's") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const Erased erased =
      Erase(base, {{"iterations", 60}, {"batch", 4}, {"lr", 2e-3}, {"layers", "x"}}, &context);
  const Backbone edited = ApplyErased(base, erased);
  const at::Tensor x = context.Latents({"x"}), t = at::full({1}, 500, at::kLong);
  const auto apart = [&](const Backbone& model) {
    const auto predict = [&](const char* text) {
      return UNetForward(model.unet_config, model.unet, x, t, EncodeTexts(model, {text}));
    };
    return (predict("a picture of a poodle") - predict("a picture of a dog")).norm().item<double>();
  };
  CHECK(apart(edited) < 0.6 * apart(base));
}

TEST_CASE("captions: whole words are renamed, and a name is put behind where there is none") {
  CHECK(Renamed("a dog and a dog's bone", "dog", "poodle") == "a poodle and a poodle's bone");
  CHECK(Renamed("a hotdog, dogs", "dog", "poodle") == "a hotdog, dogs, poodle");
  CHECK(Renamed("a kitchen knife", "kitchen knife", "umbrella") == "a umbrella");
  CHECK(Renamed("", "dog", "poodle") == ", poodle");
  Concept subject = TinyConcept();
  subject.known = {"crossed swords", "sword"};
  CHECK(NameIn("two crossed swords", subject) == "crossed swords");
  CHECK(NameIn("a sword", subject) == "sword");
  CHECK(NameIn("swordfish", subject).empty());
}

}  // namespace excise
