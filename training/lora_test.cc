#include "training/lora.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

at::Tensor Draw(at::IntArrayRef shape, const std::string& name) {
  return nn::InitNormal(shape, 1.0, 11, name);
}

StateDict Net() {
  StateDict net;
  net.Set("attn.to_q.weight", Draw({6, 4}, "q"));
  net.Set("attn.to_q.bias", Draw({6}, "qb"));
  net.Set("conv.weight", Draw({5, 4, 3, 3}, "c"));
  net.Set("norm.weight", at::ones({4}));
  return net;
}

LoraSpec Spec() {
  LoraSpec spec;
  spec.rank = 2;
  spec.alpha = 3;
  spec.targets = {"to_q", "^conv"};
  return spec;
}

// As InitLora, with a B that is not zero.
StateDict Trained(const StateDict& net, const LoraSpec& spec) {
  StateDict lora = InitLora(net, spec, 5), out;
  for (const auto& [name, tensor] : lora) {
    const bool b = name.find("lora_B") != std::string::npos;
    out.Set(name, b ? Draw(tensor.sizes(), name) : tensor);
  }
  return out;
}

double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a - b).abs().max().item<double>();
}

TEST_CASE("Fresh adapters: peft's shapes, bounds, and no change to the model") {
  const StateDict net = Net();
  LoraSpec spec = Spec();
  spec.rank = 64;
  const StateDict lora = InitLora(net, spec, 5);
  CHECK(lora.size() == 4);
  CHECK(lora.Get("attn.to_q.lora_A.weight").sizes() == at::IntArrayRef({64, 4}));
  CHECK(lora.Get("attn.to_q.lora_B.weight").sizes() == at::IntArrayRef({6, 64}));
  CHECK(lora.Get("conv.lora_A.weight").sizes() == at::IntArrayRef({64, 4, 3, 3}));
  CHECK(lora.Get("conv.lora_B.weight").sizes() == at::IntArrayRef({5, 64, 1, 1}));
  CHECK(lora.Get("conv.lora_B.weight").abs().max().item<double>() == 0);
  // kaiming_uniform_(a = sqrt 5): bound sqrt(6 / ((1 + 5) fan_in)) = 1 / sqrt(fan_in).
  const double linear = lora.Get("attn.to_q.lora_A.weight").abs().max().item<double>();
  const double conv = lora.Get("conv.lora_A.weight").abs().max().item<double>();
  CHECK((linear < 0.5 && linear > 0.47));
  CHECK((conv < 1 / 6.0 && conv > 0.95 / 6.0));
  const StateDict merged = MergeLora(net, lora, spec);
  for (const auto& [name, tensor] : net) CHECK(merged.Get(name).equal(tensor));
  CHECK(merged.Get("norm.weight").data_ptr() == net.Get("norm.weight").data_ptr());
  CHECK_FALSE(
      InitLora(net, spec, 6).Get("conv.lora_A.weight").equal(lora.Get("conv.lora_A.weight")));
}

TEST_CASE("Scaling by hand: W + alpha / r B A") {
  StateDict net, lora;
  net.Set("l.weight", at::zeros({2, 3}));
  lora.Set("l.lora_A.weight", at::tensor({1.0F, 2.0F, 3.0F, 0.0F, 1.0F, 0.0F}).view({2, 3}));
  lora.Set("l.lora_B.weight", at::tensor({1.0F, 0.0F, 2.0F, 1.0F}).view({2, 2}));
  LoraSpec spec;
  spec.rank = 2;
  spec.alpha = 8;
  // B A = [[1, 2, 3], [2, 5, 6]], times 4.
  CHECK(MergeLora(net, lora, spec)
            .Get("l.weight")
            .equal(at::tensor({4.0F, 8.0F, 12.0F, 8.0F, 20.0F, 24.0F}).view({2, 3})));
}

TEST_CASE("Merged weights act as the two extra layers of the paper") {
  const StateDict net = Net();
  const LoraSpec spec = Spec();
  const StateDict lora = Trained(net, spec);
  const StateDict merged = MergeLora(net, lora, spec);
  const double scale = 1.5;
  const at::Tensor x = Draw({3, 4}, "x"), image = Draw({2, 4, 7, 7}, "image");
  const at::Tensor a = lora.Get("attn.to_q.lora_A.weight"), b = lora.Get("attn.to_q.lora_B.weight");
  CHECK(MaxDifference(at::linear(x, merged.Get("attn.to_q.weight")),
                      at::linear(x, net.Get("attn.to_q.weight")) +
                          at::linear(at::linear(x, a), b) * scale) < 1e-4);
  const at::Tensor ca = lora.Get("conv.lora_A.weight"), cb = lora.Get("conv.lora_B.weight");
  const at::Tensor down = at::conv2d(image, ca, {}, {2, 2}, {1, 1});
  CHECK(MaxDifference(at::conv2d(image, merged.Get("conv.weight"), {}, {2, 2}, {1, 1}),
                      at::conv2d(image, net.Get("conv.weight"), {}, {2, 2}, {1, 1}) +
                          at::conv2d(down, cb) * scale) < 1e-3);
  CHECK(MaxDifference(merged.Get("conv.weight"), net.Get("conv.weight")) > 0.1);
}

TEST_CASE("ApplyLora equals the merge and has gradients in A and B alone") {
  const StateDict net = Net();
  const LoraSpec spec = Spec();
  StateDict lora;
  std::vector<at::Tensor> leaves;
  for (const auto& [name, tensor] : Trained(net, spec)) {
    leaves.push_back(tensor.clone().set_requires_grad(true));
    lora.Set(name, leaves.back());
  }
  const StateDict applied = ApplyLora(net, lora, spec), merged = MergeLora(net, lora, spec);
  for (const auto& [name, tensor] : applied) CHECK(tensor.detach().equal(merged.Get(name)));
  CHECK_FALSE(merged.Get("conv.weight").requires_grad());
  const at::Tensor loss =
      applied.Get("conv.weight").square().sum() + applied.Get("attn.to_q.weight").square().sum();
  for (const at::Tensor& g : Gradients(loss, leaves)) {
    REQUIRE(g.defined());
    CHECK(g.abs().max().item<double>() > 0);
  }
}

TEST_CASE("Hooks without dropout equal the merged layer, through nn::Linear") {
  const StateDict net = Net();
  LoraSpec spec = Spec();
  spec.targets = {"to_q"};
  const StateDict lora = Trained(net, spec);
  LoraHooks hooks(lora, spec, 1);
  const at::Tensor x = Draw({3, 5, 4}, "x");
  CHECK(MaxDifference(nn::Linear(net, "attn.to_q", x, &hooks),
                      nn::Linear(MergeLora(net, lora, spec), "attn.to_q", x)) < 1e-4);
  CHECK_FALSE(hooks.WantsLinear("attn.to_k"));
}

TEST_CASE("Dropout: unbiased, keyed by sample and step, never by the batch around it") {
  StateDict lora;
  lora.Set("l.lora_A.weight", at::ones({1, 1}));
  lora.Set("l.lora_B.weight", at::ones({1, 1}));
  LoraSpec spec;
  spec.rank = 1;
  spec.alpha = 1;
  spec.dropout = 0.25;
  LoraHooks hooks(lora, spec, 7);
  // With A = B = 1 and y = 0 the hook's answer is the mask itself.
  const auto mask = [&](int64_t step, int64_t first, int64_t batch) {
    hooks.SetStep(step, first);
    return hooks.OnLinear("l", at::ones({batch, 5000, 1}), at::zeros({batch, 5000, 1}));
  };
  const at::Tensor whole = mask(3, 0, 4);
  const double kept = (whole > 0).to(at::kDouble).mean().item<double>();
  CHECK(std::abs(kept - 0.75) < 5 * std::sqrt(0.75 * 0.25 / 20000));
  CHECK(whole.max().item<double>() == Approx(1 / 0.75));
  CHECK(whole.min().item<double>() == 0);
  CHECK(mask(3, 0, 4).equal(whole));
  CHECK(mask(3, 2, 2).equal(whole.slice(0, 2, 4)));
  CHECK_FALSE(mask(4, 0, 4).equal(whole));
  CHECK_FALSE(whole[0].equal(whole[1]));
  // A second call of the layer within a step draws anew.
  hooks.SetStep(3);
  hooks.OnLinear("l", at::ones({4, 5000, 1}), at::zeros({4, 5000, 1}));
  CHECK_FALSE(hooks.OnLinear("l", at::ones({4, 5000, 1}), at::zeros({4, 5000, 1})).equal(whole));
}

TEST_CASE("Wrong adapters and settings are refused by name") {
  const StateDict net = Net();
  LoraSpec spec = Spec();
  const StateDict lora = Trained(net, spec);
  spec.targets = {"to_q", "to_k"};
  CHECK_THROWS_WITH(InitLora(net, spec, 1), Catch::Contains("'to_k'"));
  spec.targets = {"norm"};  // one dimension: not a layer LoRA knows
  CHECK_THROWS_AS(InitLora(net, spec, 1), UsageError);
  spec = Spec();
  spec.rank = 0;
  CHECK_THROWS_WITH(InitLora(net, spec, 1), Catch::Contains("rank"));
  spec = Spec();
  spec.rank = 3;
  CHECK_THROWS_WITH(MergeLora(net, lora, spec),
                    Catch::Contains("conv.weight") || Catch::Contains("attn.to_q.weight"));
  spec = Spec();
  spec.dropout = 0.1;
  CHECK_THROWS_WITH(ApplyLora(net, lora, spec), Catch::Contains("LoraHooks"));
  CHECK_THROWS_WITH(LoraHooks(lora, spec, 1), Catch::Contains("conv.lora_A.weight"));
  spec.dropout = 1;
  CHECK_THROWS_WITH(MergeLora(net, lora, spec), Catch::Contains("dropout"));
  StateDict lone;
  lone.Set("conv.lora_A.weight", lora.Get("conv.lora_A.weight"));
  CHECK_THROWS_WITH(MergeLora(net, lone, Spec()), Catch::Contains("conv.lora_B.weight"));
  CHECK_THROWS_AS(MergeLora(net, {}, Spec()), Error);
  StateDict foreign;
  foreign.Set("other.lora_A.weight", at::ones({2, 4}));
  foreign.Set("other.lora_B.weight", at::ones({6, 2}));
  CHECK_THROWS_WITH(MergeLora(net, foreign, Spec()), Catch::Contains("other.weight"));
}

}  // namespace
}  // namespace excise
