// A gradient step against the paper's formula, with AdamW and the average by hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Erased Erase(const Backbone& base, const Json& params, TinyContext* context) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("sdd");
  DecodeParams(params, *method, "test");
  return method->Erase(*context, base, {TinyConcept()});
}

}  // namespace

TEST_CASE("sdd: two steps are AdamW's on the paper's loss, and the average is returned") {
  const Backbone base = TinyBackbone();
  const at::Tensor name = EncodeTexts(base, {"poodle"}), empty = EncodeTexts(base, {""});
  TinyContext context, again;
  Json params = {{"layers", "x"},     {"iterations", 2},     {"batch", 3},
                 {"lr", 1e-4},        {"weight_decay", 0.1}, {"clip_norm", 0},
                 {"trajectories", 2}, {"sampling_steps", 3}, {"ema_decay", 0}};
  const Erased erased = Erase(base, params, &context);
  const PointPool pool{2, 3, 3};
  const ConceptPoints points =
      pool.Draw(again, base, GuidedTrajectory(base, 3), name, empty, "sdd");
  const auto loss = [&](const StateDict& unet, int64_t step) {
    const ConceptPoints some = points.Some(again.Rng("sdd/points", static_cast<uint64_t>(step)), 3);
    const auto predict = [&](const at::Tensor& states) {
      return UNetForward(base.unet_config, unet, some.latents, some.timesteps,
                         states.expand({3, -1, -1}));
    };
    return (predict(name) - predict(empty).detach()).square().mean();
  };
  const std::vector<std::string> layers = UNetLayers(base.unet, "x");
  const StateDict second = AdamWByHand(base.unet, layers, 2, 1e-4, 0.1, loss);
  CHECK(FurthestApart(erased.unet, base.unet) > 1e-4);
  CHECK(FurthestApart(erased.unet, second) < 2e-6);
  CHECK(context.unet_evaluations == 2 * 3 * 2 + 2 * 2 * 3);

  // The average: a tenth of the original, then 2/11 of that and 9/11 of the second weights.
  params["ema_decay"] = 0.9;
  TinyContext third;
  const Erased averaged = Erase(base, params, &third);
  const StateDict first = AdamWByHand(base.unet, layers, 1, 1e-4, 0.1, loss);
  StateDict expected;
  for (const std::string& layer : layers) {
    const at::Tensor once = base.unet.Get(layer) / 10 + first.Get(layer) * 9 / 10;
    expected.Set(layer, once * 2 / 11 + second.Get(layer) * 9 / 11);
  }
  CHECK(FurthestApart(averaged.unet, expected) < 2e-6);
}

TEST_CASE("sdd: the name's answer moves to the empty prompt's") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const Backbone edited = ApplyErased(base, Erase(base,
                                                  {{"iterations", 60},
                                                   {"batch", 4},
                                                   {"lr", 2e-3},
                                                   {"ema_decay", 0},
                                                   {"trajectories", 4},
                                                   {"sampling_steps", 4}},
                                                  &context));
  const at::Tensor x = context.Latents({"x"}), t = at::full({1}, 500, at::kLong);
  const auto apart = [&](const Backbone& model) {
    const auto predict = [&](const char* text) {
      return UNetForward(model.unet_config, model.unet, x, t, EncodeTexts(model, {text}));
    };
    return (predict("poodle") - predict("")).norm().item<double>();
  };
  CHECK(apart(edited) < 0.6 * apart(base));
}

}  // namespace excise
