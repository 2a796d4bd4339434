// The mask and two gradient steps against the paper's formulas, by hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/sort.h>

#include <catch2/catch.hpp>

#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"
#include "training/diffusion.h"

namespace excise {
namespace {

Erased Erase(const Backbone& base, Json params, TinyContext* context) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("salun");
  params.update({{"layers", "x"}, {"batch", 3}, {"lr", 1e-4}, {"iterations", 2}});
  DecodeParams(params, *method, "test");
  return method->Erase(*context, base, {TinyConcept()});
}

const char* const kTarget = "a picture of a poodle";

// |gradient| of the mask's loss at the guidance scale 1 + s, over the one picture that there is.
StateDict Saliency(const Backbone& base, double s, TinyContext* context) {
  const std::vector<std::string> layers = UNetLayers(base.unet, "x");
  StateDict leaves = base.unet;
  std::vector<at::Tensor> inputs;
  for (const std::string& layer : layers) {
    inputs.push_back(base.unet.Get(layer).clone().requires_grad_(true));
    leaves.Set(layer, inputs.back());
  }
  const NoisedRows one = DrawNoisedRows(base.scheduler, context->Latents({kTarget}),
                                        context->Rng("salun/mask", 0), 0, 1);
  const auto predict = [&](const char* text) {
    return UNetForward(base.unet_config, leaves, one.noised, one.timesteps,
                       EncodeTexts(base, {text}));
  };
  const at::Tensor guided = (1 + s) * predict(kTarget) - s * predict("");
  const std::vector<at::Tensor> gradients =
      Gradients((guided - one.target).square().mean(), inputs);
  StateDict saliency;
  for (size_t i = 0; i < layers.size(); ++i) saliency.Set(layers[i], gradients[i].abs());
  return saliency;
}

}  // namespace

TEST_CASE("salun: the mask has the larger half of the gradients; as released, the smaller one") {
  const Backbone base = TinyBackbone();
  TinyContext probe;
  const StateDict saliency = Saliency(base, 7.5, &probe);
  std::vector<at::Tensor> all;
  for (const auto& [name, tensor] : saliency) all.push_back(tensor.flatten());
  const at::Tensor sorted = std::get<0>(at::sort(at::cat(all)));
  const double median = sorted[sorted.numel() / 2].item<double>();
  for (const std::string mask : {"largest", "released"}) {
    INFO(mask);
    TinyContext context;
    const Erased erased = Erase(base, {{"mask", mask}, {"fraction", 0.5}}, &context);
    int64_t moved = 0, wrong = 0, n = 0;
    for (const auto& [name, tensor] : erased.unet) {
      const at::Tensor moves = tensor.ne(base.unet.Get(name));
      // A tenth around the median is left out: there the order of sums decides.
      const at::Tensor large = saliency.Get(name).gt(1.1 * median);
      const at::Tensor small = saliency.Get(name).lt(0.9 * median);
      wrong += moves.logical_and(mask == "largest" ? small : large).sum().item<int64_t>();
      moved += moves.sum().item<int64_t>();
      n += tensor.numel();
    }
    CHECK(wrong == 0);
    CHECK(static_cast<double>(moved) / static_cast<double>(n) > 0.3);
    CHECK(moved <= n / 2 + 1);
  }
}

TEST_CASE("salun: two steps are Adam's on the paper's losses, where the mask lets them") {
  const Backbone base = TinyBackbone();
  TinyContext context, again;
  const Erased erased = Erase(base, {{"mask", "all"}, {"remain", 0.5}}, &context);
  const auto loss = [&](const StateDict& unet, int64_t step) {
    const auto said = [&](const NoisedRows& drawn, const char* text) {
      return UNetForward(base.unet_config, unet, drawn.noised, drawn.timesteps,
                         EncodeTexts(base, {text}).expand({3, -1, -1}));
    };
    const auto draw = [&](const char* stream) {
      return DrawNoisedRows(base.scheduler, again.Latents({"x"}),
                            again.Rng(stream, static_cast<uint64_t>(step)), step, 3);
    };
    const NoisedRows forget = draw("salun/forget"), remain = draw("salun/remain");
    const at::Tensor pseudo = said(forget, "a picture of a dog").detach();
    return (said(forget, kTarget) - pseudo).square().mean() +
           0.5 * (said(remain, "a picture of a cat") - remain.target).square().mean();
  };
  const StateDict expected = AdamWByHand(base.unet, UNetLayers(base.unet, "x"), 2, 1e-4, 0, loss);
  CHECK(FurthestApart(erased.unet, base.unet) > 1e-4);
  CHECK(FurthestApart(erased.unet, expected) < 2e-6);
  CHECK(context.unet_evaluations == 3 * 2 * 3);
  CHECK(context.gradient_steps == 2);
}

}  // namespace excise
