// Two gradient steps against the paper's formula, with AdamW and the Fisher diagonal by hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"
#include "training/diffusion.h"

namespace excise {
namespace {

Erased Erase(const Backbone& base, Json params, TinyContext* context) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("selective_amnesia");
  params.update({{"layers", "x_strict"}, {"batch", 3}, {"fisher_samples", 2}});
  DecodeParams(params, *method, "test");
  return method->Erase(*context, base, {TinyConcept()});
}

}  // namespace

TEST_CASE("selective_amnesia: two steps are AdamW's on the paper's three terms") {
  const Backbone base = TinyBackbone();
  TinyContext context, again;
  // A weight with which the third term counts: Fisher's numbers are small here.
  const double lambda = 1e6, replay = 0.5, lr = 1e-3;
  const Erased erased = Erase(
      base, {{"lambda", lambda}, {"replay", replay}, {"lr", lr}, {"iterations", 2}}, &context);
  const at::Tensor poodle = EncodeTexts(base, {"a picture of a poodle"});
  const at::Tensor cat = EncodeTexts(base, {"a picture of a cat"});
  const auto denoise = [&](const StateDict& unet, const at::Tensor& states, const char* stream,
                           int64_t step, int64_t n) {
    const NoisedRows drawn =
        DrawNoisedRows(base.scheduler, again.Latents({"x"}),
                       again.Rng(stream, static_cast<uint64_t>(step)), step, n);
    const at::Tensor said = UNetForward(base.unet_config, unet, drawn.noised, drawn.timesteps,
                                        states.expand({n, -1, -1}));
    return (said - drawn.target).square().mean();
  };
  const std::vector<std::string> layers = UNetLayers(base.unet, "x_strict");
  // Fisher: the mean square of two pictures' gradients.
  StateDict fisher;
  for (int64_t sample = 0; sample < 2; ++sample) {
    StateDict leaves = base.unet;
    std::vector<at::Tensor> inputs;
    for (const std::string& layer : layers) {
      inputs.push_back(base.unet.Get(layer).clone().requires_grad_(true));
      leaves.Set(layer, inputs.back());
    }
    const std::vector<at::Tensor> gradients =
        Gradients(denoise(leaves, cat, "selective_amnesia/fisher", sample, 1), inputs);
    for (size_t i = 0; i < layers.size(); ++i) {
      const at::Tensor half = gradients[i].square() / 2;
      fisher.Set(layers[i], sample == 0 ? half : fisher.Get(layers[i]) + half);
    }
  }
  const auto loss = [&](const StateDict& unet, int64_t step) {
    at::Tensor sum = denoise(unet, poodle, "selective_amnesia/surrogates", step, 3) +
                     replay * denoise(unet, cat, "selective_amnesia/replay", step, 3);
    for (const std::string& layer : layers) {
      sum = sum +
            lambda * (fisher.Get(layer) * (unet.Get(layer) - base.unet.Get(layer)).square()).sum();
    }
    return sum;
  };
  const StateDict expected = AdamWByHand(base.unet, layers, 2, lr, 0, loss);
  CHECK(FurthestApart(erased.unet, base.unet) > lr);
  CHECK(FurthestApart(erased.unet, expected) < 2e-5);
  CHECK(context.gradient_steps == 2 + 2);
  CHECK(context.unet_evaluations == 2 + 2 * 2 * 3);

  TinyContext third;
  const Erased without =
      Erase(base, {{"lambda", 0}, {"replay", replay}, {"lr", lr}, {"iterations", 2}}, &third);
  CHECK(FurthestApart(without.unet, expected) > 1e-4);  // the term counts
}

TEST_CASE("selective_amnesia: the Fisher term holds the weights that others need") {
  const Backbone base = TinyBackbone();
  double before = 1e9;
  for (const double lambda : {0.0, 1e7}) {
    TinyContext context;
    const Erased erased = Erase(base, {{"lambda", lambda}, {"iterations", 20}}, &context);
    double moved = 0;
    for (const auto& [name, tensor] : erased.unet) {
      moved += (tensor - base.unet.Get(name)).square().sum().item<double>();
    }
    CHECK(moved < 0.9 * before);
    before = moved;
  }
}

}  // namespace excise
