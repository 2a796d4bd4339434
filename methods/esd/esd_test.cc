#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

struct Probe {
  at::Tensor latents, timestep, concept_states, empty_states;
};

// Latents that no training saw.
Probe MakeProbe(const Backbone& base) {
  const int64_t length = base.clip.text.max_position_embeddings;
  Probe probe;
  StreamKey key;
  key.id = "esd_test";
  Philox rng(key);
  probe.latents =
      TinyImages(6, 1).slice(1, 0, 1).slice(2, 0, 16).slice(3, 0, 16).reshape({6, 4, 8, 8});
  probe.latents = probe.latents.clone();
  rng.FillNormal(probe.latents.data_ptr<float>(), probe.latents.numel());
  probe.timestep = at::tensor({951, 801, 601, 401, 201, 51}, at::kLong);
  probe.concept_states =
      EncodeText(base, TokenizeBatch(*base.tokenizer, {"poodle"}, length)).expand({6, -1, -1});
  probe.empty_states =
      EncodeText(base, TokenizeBatch(*base.tokenizer, {""}, length)).expand({6, -1, -1});
  return probe;
}

at::Tensor GuidedTarget(const Backbone& base, const Probe& probe, double eta) {
  const NoGrad no_grad;
  const auto predict = [&](const at::Tensor& states) {
    return UNetForward(base.unet_config, base.unet, probe.latents, probe.timestep, states);
  };
  const at::Tensor text = predict(probe.concept_states), empty = predict(probe.empty_states);
  return empty - eta * (text - empty);
}

at::Tensor Loss(const Backbone& base, const StateDict& student, const Probe& probe,
                const at::Tensor& target) {
  return at::mse_loss(
      UNetForward(base.unet_config, student, probe.latents, probe.timestep, probe.concept_states),
      target);
}

Erased Erase(const Backbone& base, const Json& params, TinyContext* context) {
  const std::unique_ptr<Method> esd = Registry<Method>::Get().Make("esd");
  DecodeParams(params, *esd, "test");
  return esd->Erase(*context, base, {TinyConcept()});
}

bool IsCross(const std::string& name) { return name.find("attn2") != name.npos; }

}  // namespace

TEST_CASE("esd: the loss's gradient agrees with finite differences on a tiny U-Net") {
  const Backbone base = TinyBackbone();
  const Probe probe = MakeProbe(base);
  const at::Tensor target = GuidedTarget(base, probe, 1).mul(3);  // off the starting point
  for (const char* suffix : {"attn2.to_v.weight", "conv1.weight"}) {
    std::string name;
    for (const auto& [key, tensor] : base.unet) {
      if (name.empty() && key.size() > 20 && key.find(suffix) != key.npos) name = key;
    }
    INFO(name);
    REQUIRE(!name.empty());
    StateDict student = base.unet;
    at::Tensor leaf = base.unet.Get(name).clone().requires_grad_(true);
    student.Set(name, leaf);
    const at::Tensor gradient = Gradients(Loss(base, student, probe, target), {leaf})[0];
    const double norm = gradient.norm().item<double>();
    REQUIRE(norm > 0);
    const NoGrad no_grad;
    const auto loss_at = [&](double step) {  // along the gradient's direction
      student.Set(name, base.unet.Get(name).add(gradient, step / norm));
      return Loss(base, student, probe, target).item<double>();
    };
    const double h = 0.02;
    CHECK((loss_at(h) - loss_at(-h)) / (2 * h) == Approx(norm).epsilon(0.02));
  }
}

TEST_CASE("esd: training moves the concept's prediction to the target, by either sampler") {
  const Backbone base = TinyBackbone();
  const Probe probe = MakeProbe(base);
  const at::Tensor target = GuidedTarget(base, probe, 1);
  const double before = Loss(base, base.unet, probe, target).item<double>();
  for (const std::string sampled_by : {"original", "student"}) {
    INFO("sampled by " << sampled_by);
    TinyContext context;
    const Erased erased = Erase(base,
                                {{"variant", "x"},
                                 {"iterations", 40},
                                 {"batch", 4},
                                 {"lr", 1e-3},
                                 {"trajectories", 4},
                                 {"sampling_steps", 4},
                                 {"sampled_by", sampled_by}},
                                &context);
    const double after = Loss(base, ApplyErased(base, erased).unet, probe, target).item<double>();
    CHECK(after < 0.5 * before);
    CHECK(context.gradient_steps == 40);
    if (sampled_by == "original") {
      // 4 trajectories x 4 steps x 2 streams, then 40 iterations of 4 latents.
      CHECK(context.unet_evaluations == 4 * 4 * 2 + 40 * 4);
    } else {
      // Every iteration: 0 to 3 steps and the targets with 2 streams, then the student.
      CHECK(context.unet_evaluations >= 40 * 4 * 3);
      CHECK(context.unet_evaluations <= 40 * 4 * (2 * 3 + 3));
      CHECK((context.unet_evaluations - 40 * 4 * 3) % (2 * 4) == 0);
    }
  }
}

TEST_CASE("esd: each variant trains its layers, and norms never move") {
  const Backbone base = TinyBackbone();
  std::map<std::string, size_t> moved;
  for (const std::string variant : {"x", "x_strict", "u", "full"}) {
    INFO("variant " << variant);
    TinyContext context;
    const Erased erased = Erase(base,
                                {{"variant", variant},
                                 {"iterations", 2},
                                 {"batch", 2},
                                 {"trajectories", 2},
                                 {"sampling_steps", 2}},
                                &context);
    for (const auto& [name, tensor] : erased.unet) {
      INFO(name);
      CHECK(name.find("norm") == name.npos);
      if (variant == "x") CHECK(IsCross(name));
      if (variant == "u") CHECK(!IsCross(name));
      if (variant == "x_strict") {
        CHECK((name.find("attn2.to_k") != name.npos || name.find("attn2.to_v") != name.npos));
      }
      if (!tensor.equal(base.unet.Get(name))) ++moved[variant];
    }
  }
  CHECK(moved["x_strict"] > 0);
  CHECK(moved["x"] > moved["x_strict"]);  // queries and outputs too
  CHECK(moved["full"] == moved["x"] + moved["u"]);
  CHECK(TinyBackbone().unet.size() > moved["full"]);
}

}  // namespace excise
