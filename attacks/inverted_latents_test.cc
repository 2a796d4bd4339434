// The inversion by hand over two steps, and that a drawing from it is the picture again.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "models/nets/unet.h"
#include "models/nets/vae.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"
#include "training/guided.h"

namespace excise {
namespace {

at::Tensor Inverted(const Json& params, TinyTarget* target) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("inverted_latents");
  DecodeParams(params, *attack, "test");
  const Trajectory found = attack->Craft(*target, TinyConcept(), TinyPrompt());
  REQUIRE(found.size() == 1);
  const NpyArray& latents = found[0].prompt.latents;
  REQUIRE(latents.shape == std::vector<int64_t>{4, 8, 8});
  return at::tensor(latents.values).view({1, 4, 8, 8});
}

at::Tensor Encoded(const Backbone& model, const at::Tensor& picture) {
  return VaeEncode(model.vae_config, model.vae, picture * 2 - 1).mean *
         model.vae_config.scaling_factor;
}

at::Tensor States(const Backbone& model, const std::string& text) {
  return EncodeText(model, TokenizeBatch(*model.tokenizer, {text}, 16));
}

}  // namespace

TEST_CASE("inverted_latents: two steps by hand, with the model and the text that are asked for") {
  const NoGrad no_grad;
  for (const bool by_victim : {true, false}) {
    for (const std::string text : {"prompt", "empty"}) {
      TinyTarget target;
      target.victim.unet.Set("conv_in.weight", target.victim.unet.Get("conv_in.weight") * 1.5);
      const at::Tensor found = Inverted(
          {{"by", by_victim ? "victim" : "unmodified"}, {"text", text}, {"steps", 2}}, &target);
      CHECK(target.ledger().unet_evaluations >= 2);
      const Backbone& model = by_victim ? target.victim : target.Unmodified();
      // DDIM's two steps of a thousand, by the abar of each.
      const GuidedTrajectory trajectory(model, 2);
      at::Tensor x = Encoded(model, target.ReferenceImages(TinyPrompt(), 1));
      double abar = 1;
      for (const int64_t step : {1, 0}) {
        const auto t = static_cast<int64_t>(trajectory.timestep(step));
        const NoiseLevel level = LevelOf(model.scheduler, t);
        const double next = level.signal * level.signal;
        const at::Tensor e =
            UNetForward(model.unet_config, model.unet, x, at::full({1}, t, at::kLong),
                        States(model, text == "empty" ? "" : TinyPrompt().text));
        x = std::sqrt(next) * (x - std::sqrt(1 - abar) * e) / std::sqrt(abar) +
            std::sqrt(1 - next) * e;
        abar = next;
      }
      CHECK((found - x).abs().max().item<double>() < 1e-4);
    }
  }
}

TEST_CASE("inverted_latents: many steps there and back give the picture again") {
  const NoGrad no_grad;
  // A model that was never trained answers wildly: a tenth of it is smooth enough for 200 steps.
  TinyTarget target;
  for (const char* name : {"conv_out.weight", "conv_out.bias"}) {
    target.victim.unet.Set(name, target.victim.unet.Get(name) * 0.1);
  }
  const Backbone& model = target.Victim();
  const at::Tensor picture = Encoded(model, target.ReferenceImages(TinyPrompt(), 1));
  const GuidedTrajectory trajectory(model, 200);
  const auto drawn = [&](const at::Tensor& noise) {
    return trajectory.Walk(
        model.unet, noise, 200, {States(model, TinyPrompt().text)},
        [](int64_t, const at::Tensor&, const std::vector<at::Tensor>& all) { return all[0]; });
  };
  const double away = (drawn(Inverted({{"steps", 200}}, &target)) - picture).norm().item<double>();
  CHECK(away < 0.1 * picture.norm().item<double>());
  const double fresh =
      (drawn(target.ReferenceImages(TinyPrompt(), 1).new_zeros({1, 4, 8, 8})) - picture)
          .norm()
          .item<double>();
  CHECK(away < 0.5 * fresh);
}

}  // namespace excise
