// Steps on erasers and adversarial prompts against the paper's formula, with Adam by hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "models/nets/attention_maps.h"
#include "models/tensors/autograd.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

constexpr double kEta = 2, kWeight = 0.5, kLr = 1e-3, kAttackLr = 0.05, kThreshold = 0.3;

std::unique_ptr<Method> Make(const Json& more = Json::object()) {
  std::unique_ptr<Method> method = Registry<Method>::Get().Make("receler");
  Json params = {{"eta", kEta},
                 {"regularisation", kWeight},
                 {"mask_threshold", kThreshold},
                 {"lr", kLr},
                 {"attack_lr", kAttackLr},
                 {"prompt_len", 3},
                 {"attack_steps", 1},
                 {"rank", 5},
                 {"iterations", 2},
                 {"batch", 3},
                 {"trajectories", 2},
                 {"sampling_steps", 3}};
  params.update(more);
  DecodeParams(params, *method, "test");
  return method;
}

// x + U gelu(D x + d) + u behind every cross-attention, with gelu by the error function.
class ByHand : public LayerHooks {
 public:
  explicit ByHand(const StateDict& erasers) : erasers_(erasers) {}
  bool WantsAttention(const std::string& name) const override {
    return name.find("attn2") != std::string::npos;
  }
  at::Tensor OnAttentionOutput(const std::string& name, at::Tensor output) override {
    const auto of = [&](const std::string& part) { return erasers_.Get(name + part); };
    const at::Tensor x = output.matmul(of(".down.weight").t()) + of(".down.bias");
    const at::Tensor gelu = x * (1 + (x / std::sqrt(2.0)).erf()) / 2;
    added[name] = gelu.matmul(of(".up.weight").t()) + of(".up.bias");
    return output + added[name];
  }
  std::map<std::string, at::Tensor> added;

 private:
  const StateDict& erasers_;
};

}  // namespace

TEST_CASE("receler: two steps are Adam's, each against the prompt that was found before it") {
  const Backbone base = TinyBackbone();
  TinyContext context, again, still;
  const Erased erased = Make()->Erase(context, base, {TinyConcept()});
  const StateDict start =
      Make({{"lr", 0}, {"iterations", 1}})->Erase(still, base, {TinyConcept()}).hook_state;
  CHECK(start.size() == 7 * 4);
  std::vector<std::string> names;
  for (const auto& [key, tensor] : start) {
    names.push_back(key);
    const bool up = key.find(".up.") != std::string::npos;
    CHECK((tensor.abs().max().item<double>() == 0) == up);
  }
  const at::Tensor name = EncodeTexts(base, {"poodle"}), empty = EncodeTexts(base, {""});
  const PointPool pool{2, 3, 3};
  const ConceptPoints points =
      pool.Draw(again, base, GuidedTrajectory(base, 3), name, empty, "receler/poodle");
  at::Tensor prompt = at::zeros({1, 3, name.size(2)});
  Philox uniform = again.Rng("receler/prompt/poodle");
  for (int64_t i = 0; i < prompt.numel(); ++i) prompt.view(-1)[i] = uniform.Uniform();

  // start, "poodle", then the prompt at 2 ... 4.
  const auto with = [&](const at::Tensor& soft) {
    return at::cat({name.narrow(1, 0, 2), soft, name.narrow(1, 5, 11)}, 1).expand({3, -1, -1});
  };
  const auto loss = [&](const StateDict& erasers, int64_t step) {
    Philox rng = again.Rng("receler/points", static_cast<uint64_t>(step));
    rng.Below(1);  // which name: there is one
    const ConceptPoints some = points.Some(rng, 3);
    const auto said = [&](const at::Tensor& states, LayerHooks* layers) {
      return UNetForward(base.unet_config, base.unet, some.latents, some.timesteps, states, layers);
    };
    // Adam's first step is the gradient's sign; of a decayed one here, on the prompt of before.
    const at::Tensor before = prompt.clone();
    if (step == 0) {
      StateDict frozen;
      for (const auto& [key, tensor] : erasers) frozen.Set(key, tensor.detach());
      ByHand layers(frozen);
      at::Tensor soft = prompt.clone().requires_grad_(true);
      const at::Tensor near = (said(with(soft), &layers) - some.text).square().mean();
      const at::Tensor g = Gradients(near, {soft})[0] + kAttackLr * prompt;
      prompt = prompt - kAttackLr * g / (g.abs() + 1e-8);
    }
    ByHand layers(erasers);
    const at::Tensor target = some.empty - kEta * (some.text - some.empty);
    const at::Tensor erase = (said(with(before), &layers) - target).square().mean();
    AttentionMaps maps({1});
    said(name.expand({3, -1, -1}), &maps);
    const at::Tensor outside = 1 - maps.Region(8, 8, kThreshold).detach();
    at::Tensor elsewhere;
    for (const auto& [layer, more] : layers.added) {
      const int64_t side = std::llround(std::sqrt(static_cast<double>(more.size(1))));
      // Regions come in cells of 2 x 2 here, which both sizes share.
      const at::Tensor flip = side == 8 ? outside : outside.slice(1, 0, 8, 2).slice(2, 0, 8, 2);
      const at::Tensor one =
          (more.view({3, side, side, -1}).square().mean(3) * flip).sum() / (flip.sum() + 1e-9);
      elsewhere = elsewhere.defined() ? elsewhere + one : one;
    }
    return erase + kWeight * elsewhere / 7;
  };
  const StateDict expected = AdamWByHand(start, names, 2, kLr, 0, loss);
  CHECK(FurthestApart(erased.hook_state, start) > kLr / 2);
  CHECK(FurthestApart(erased.hook_state, expected) < 2e-5);
  CHECK(context.gradient_steps == 2 * 2);
  CHECK(context.unet_evaluations == 2 * 3 * 2 + 2 * 3 * 3);
}

TEST_CASE("receler: its hooks are the erasers, and restored ones are the same") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const std::unique_ptr<Method> method = Make({{"lr", 0.01}});
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  const NoGrad no_grad;
  const at::Tensor latents = context.Latents({"x"}), states = EncodeTexts(base, {"a poodle"});
  const at::Tensor at_step = at::full({1}, 400, at::kLong);
  const auto said = [&](LayerHooks* layers) {
    return UNetForward(base.unet_config, base.unet, latents, at_step, states, layers);
  };
  ByHand by_hand(erased.hook_state);
  GuidanceBatch batch;
  batch.prompt_states = states;
  const auto run = erased.hooks->Start(batch);
  const auto restored =
      method->RestoreHooks(base, {TinyConcept()}, erased.hook_state)->Start(batch);
  CHECK(said(run->Layers()).allclose(said(&by_hand), 1e-4, 1e-6));
  CHECK(said(run->Layers()).equal(said(restored->Layers())));
  CHECK((said(run->Layers()) - said(nullptr)).abs().max().item<double>() > 1e-4);
}

TEST_CASE(
    "receler: without a search it trains on the name; a prompt that does not fit is refused") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const Erased erased =
      Make({{"attack_steps", 0}, {"regularisation", 0}})->Erase(context, base, {TinyConcept()});
  CHECK(context.unet_evaluations == 2 * 3 * 2 + 2 * 3);
  CHECK_THROWS_WITH(Make({{"prompt_len", 15}})->Erase(context, base, {TinyConcept()}),
                    Catch::Contains("prompt_len 15 does not fit"));
}

}  // namespace excise
