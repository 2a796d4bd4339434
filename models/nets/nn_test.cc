#include "models/nets/nn.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/gradient_check.h"

namespace excise {
namespace {

double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a - b).abs().max().item<double>();
}

at::Tensor Doubles(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

StateDict Layer(const std::string& prefix, at::Tensor weight, at::Tensor bias) {
  StateDict weights;
  weights.Set(prefix + ".weight", std::move(weight));
  if (bias.defined()) weights.Set(prefix + ".bias", std::move(bias));
  return weights;
}

// Expected values of this file: torch 2.11.0 in Python (torch.nn.functional, float64), on the same
// sine-filled tensors.
TEST_CASE("convolution, norms and activations equal torch in Python") {
  const at::Tensor x = SineTensor({2, 4, 3, 3}, 0);
  StateDict conv = Layer("c", SineTensor({6, 4, 3, 3}, 1) * 0.3, SineTensor({6}, 2));
  const at::Tensor y = nn::Conv2d(conv, "c", x, 2, 1);
  REQUIRE(y.sizes() == at::IntArrayRef({2, 6, 2, 2}));
  CHECK(MaxDifference(y.flatten().narrow(0, 0, 8),
                      Doubles({-1.831625835, -0.672045617, 2.446589438, 2.774402034, -2.739704585,
                               -2.777951837, 0.088634177, 1.494062699})) < 1e-8);
  CHECK(y.square().sum().item<double>() == Approx(195.614774243562).epsilon(1e-10));

  StateDict group = Layer("g", 1 + SineTensor({4}, 3) * 0.3, SineTensor({4}, 4));
  const at::Tensor g = nn::GroupNorm(group, "g", x, 2, 1e-6);
  CHECK(MaxDifference(g.flatten().narrow(0, 0, 5), Doubles({-0.88367738, -0.465811134, -0.104501124,
                                                            0.151351035, 0.267116954})) < 1e-8);
  CHECK(g.square().sum().item<double>() == Approx(51.331820039467374).epsilon(1e-10));

  StateDict layer = Layer("l", 1 + SineTensor({3}, 3) * 0.3, SineTensor({3}, 4));
  CHECK(MaxDifference(nn::LayerNorm(layer, "l", x, 1e-5).flatten().narrow(0, 0, 5),
                      Doubles({-1.87807803, -0.611089607, 0.500239679, -1.93594011, 0.131725298})) <
        1e-8);

  const at::Tensor v = Doubles({-3, -1, -0.1, 0, 0.5, 2});
  CHECK(MaxDifference(nn::Activation("gelu", v), Doubles({-0.004049694, -0.158655254, -0.046017216,
                                                          0, 0.345731231, 1.954499736})) < 1e-8);
  CHECK(MaxDifference(nn::Activation("quick_gelu", v),
                      Doubles({-0.01807131, -0.154204234, -0.045755242, 0, 0.350388437,
                               1.935658623})) < 1e-8);
  CHECK(MaxDifference(nn::Activation("silu", v), Doubles({-0.14227762, -0.268941421, -0.047502081,
                                                          0, 0.311229666, 1.761594156})) < 1e-8);
  CHECK(MaxDifference(nn::Activation("relu", v), Doubles({0, 0, 0, 0, 0.5, 2})) == 0);
  CHECK_THROWS_WITH(nn::Activation("gelu_new", v), Catch::Contains("'gelu_new'"));
}

TEST_CASE("a linear layer uses its bias where there is one") {
  const at::Tensor weight = Doubles({1, 2, 3, 4, 5, 6}).view({2, 3});
  const at::Tensor x = Doubles({1, 0, -1, 2, 1, 0}).view({2, 3});
  const at::Tensor expected = Doubles({-2, -2, 4, 13}).view({2, 2});
  CHECK(at::equal(nn::Linear(Layer("p", weight, {}), "p", x), expected));
  const at::Tensor bias = Doubles({10, -10});
  CHECK(at::equal(nn::Linear(Layer("p", weight, bias), "p", x), expected + bias));
  CHECK_THROWS_AS(nn::Linear(Layer("p", weight, {}), "q", x), Error);
}

class DoublingHooks : public LayerHooks {
 public:
  bool WantsLinear(const std::string& name) const override { return name == "wanted"; }
  at::Tensor OnLinear(const std::string&, const at::Tensor& x, at::Tensor y) override {
    seen_x = x;
    return y * 2;
  }
  bool WantsAttention(const std::string& name) const override { return name == "wanted"; }
  void OnAttention(const std::string&, at::Tensor*, at::Tensor*, at::Tensor* v) override {
    *v = *v + 1;
  }
  bool WantsProbabilities(const std::string& name) const override { return name == "map"; }
  at::Tensor OnProbabilities(const std::string&, at::Tensor p) override {
    seen_probabilities = p;
    return at::zeros_like(p);
  }
  at::Tensor seen_x, seen_probabilities;
};

TEST_CASE("hooks see and change the layers that they want, and no others") {
  DoublingHooks hooks;
  const at::Tensor x = SineTensor({2, 3}, 1);
  StateDict weights = Layer("wanted", SineTensor({4, 3}, 2), {});
  weights.Merge(Layer("other", weights.Get("wanted.weight"), {}));
  const at::Tensor y = nn::Linear(weights, "other", x, &hooks);
  CHECK_FALSE(hooks.seen_x.defined());
  CHECK(at::equal(nn::Linear(weights, "wanted", x, &hooks), y * 2));
  CHECK(hooks.seen_x.is_same(x));

  const at::Tensor q = SineTensor({1, 2, 5, 4}, 3), k = SineTensor({1, 2, 6, 4}, 4);
  const at::Tensor v = SineTensor({1, 2, 6, 4}, 5);
  const at::Tensor plain = nn::Attention(q, k, v, {}, "other", &hooks);
  // Probabilities sum to one, so v + 1 gives one more.
  CHECK(MaxDifference(nn::Attention(q, k, v, {}, "wanted", &hooks), plain + 1) < 1e-12);
  CHECK(nn::Attention(q, k, v, {}, "map", &hooks).abs().max().item<double>() == 0);
  REQUIRE(hooks.seen_probabilities.sizes() == at::IntArrayRef({1, 2, 5, 6}));
  CHECK(MaxDifference(hooks.seen_probabilities.sum({-1}), at::ones({1, 2, 5}, at::kDouble)) <
        1e-12);
  CHECK(MaxDifference(at::matmul(hooks.seen_probabilities, v), plain) < 1e-12);
}

TEST_CASE("attention in closed form") {
  const at::Tensor v = SineTensor({1, 1, 4, 3}, 5);
  const at::Tensor zero = at::zeros({1, 1, 4, 3}, at::kDouble);
  // Equal scores: every row is the mean of what it may see.
  const at::Tensor all = nn::Attention(zero, zero, v, {}, "a");
  CHECK(MaxDifference(all, v.mean({2}, true).expand_as(v)) < 1e-12);
  const at::Tensor hidden = at::ones({4, 4}, at::kDouble).triu(1) * -1e30;
  const at::Tensor causal = nn::Attention(zero, zero, v, hidden, "a");
  for (int64_t i = 0; i < 4; ++i) {
    CHECK(MaxDifference(causal.select(2, i), v.narrow(2, 0, i + 1).mean(at::IntArrayRef{2})) <
          1e-12);
  }
  // Scores differ by q k / sqrt(d) = ln 3 with d = 4: weights 1/4 and 3/4.
  const at::Tensor q = Doubles({1, 0, 0, 0}).view({1, 1, 1, 4});
  const at::Tensor k = Doubles({0, 0, 0, 0, 2 * std::log(3.0), 0, 0, 0}).view({1, 1, 2, 4});
  const at::Tensor two = Doubles({0, 0, 0, 0, 8, 8, 8, 8}).view({1, 1, 2, 4});
  CHECK(MaxDifference(nn::Attention(q, k, two, {}, "a"), at::full({1, 1, 1, 4}, 6.0, at::kDouble)) <
        1e-12);
}

TEST_CASE("the fused and the plain attention agree, with and without a mask") {
  const int64_t tokens = 144;  // 144 * 144 scores are beyond the plain form
  const at::Tensor q = SineTensor({2, 2, tokens, 8}, 1, at::kFloat) * 3;
  const at::Tensor k = SineTensor({2, 2, tokens, 8}, 2, at::kFloat) * 3;
  const at::Tensor v = SineTensor({2, 2, tokens, 8}, 3, at::kFloat);
  const at::Tensor causal = at::ones({tokens, tokens}, at::kFloat).triu(1) * -1e30;
  for (const at::Tensor& mask : {at::Tensor(), causal}) {
    const at::Tensor fused = nn::Attention(q, k, v, mask, "a");
    const nn::PlainAttention plain;
    CHECK(MaxDifference(nn::Attention(q, k, v, mask, "a"), fused) < 2e-6);
  }
}

TEST_CASE("plain attention has a second derivative where the fused kernel has none") {
  const at::Tensor q = SineTensor({1, 1, 144, 8}, 1, at::kFloat).requires_grad_();
  auto second = [&] {
    const at::Tensor loss = nn::Attention(q, q, q, {}, "a").square().sum();
    const at::Tensor gradient = Gradients(loss, {q}, true, true)[0];
    return Gradients(gradient.square().sum(), {q})[0];
  };
  CHECK_THROWS(second());
  {
    const nn::PlainAttention outer;
    { const nn::PlainAttention inner; }
    CHECK(second().abs().max().item<double>() > 0);
  }
  CHECK_THROWS(second());
}

TEST_CASE("gradients of every layer equal central differences") {
  const at::Tensor x = SineTensor({2, 4, 3, 3}, 0);
  StateDict w;
  w.Merge(Layer("conv", SineTensor({3, 4, 3, 3}, 1), SineTensor({3}, 2)));
  w.Merge(Layer("group", SineTensor({4}, 3), SineTensor({4}, 4)));
  w.Merge(Layer("layer", SineTensor({3}, 5), SineTensor({3}, 6)));
  w.Merge(Layer("linear", SineTensor({5, 3}, 7), SineTensor({5}, 8)));
  auto inputs = [&](const std::string& prefix) {
    return std::vector<at::Tensor>{x, w.Get(prefix + ".weight"), w.Get(prefix + ".bias")};
  };
  CHECK(GradientError([&] { return nn::Conv2d(w, "conv", x, 2, 1); }, inputs("conv")) < 1e-7);
  CHECK(GradientError([&] { return nn::GroupNorm(w, "group", x, 2, 1e-5); }, inputs("group")) <
        1e-7);
  CHECK(GradientError([&] { return nn::LayerNorm(w, "layer", x, 1e-5); }, inputs("layer")) < 1e-7);
  CHECK(GradientError([&] { return nn::Linear(w, "linear", x); }, inputs("linear")) < 1e-7);
  for (const char* name : {"quick_gelu", "gelu", "silu"}) {
    CHECK(GradientError([&] { return nn::Activation(name, x); }, {x}) < 1e-7);
  }
  const at::Tensor q = SineTensor({1, 2, 3, 4}, 9), k = SineTensor({1, 2, 5, 4}, 10);
  const at::Tensor v = SineTensor({1, 2, 5, 4}, 11);
  CHECK(GradientError([&] { return nn::Attention(q, k, v, {}, "a"); }, {q, k, v}) < 1e-7);
}

TEST_CASE("initial values depend on seed and name only and have the stated distribution") {
  const at::Tensor a = nn::InitNormal({200, 100}, 0.5, 7, "a.weight");
  CHECK(at::equal(a, nn::InitNormal({200, 100}, 0.5, 7, "a.weight")));
  CHECK_FALSE(at::equal(a, nn::InitNormal({200, 100}, 0.5, 8, "a.weight")));
  CHECK_FALSE(at::equal(a, nn::InitNormal({200, 100}, 0.5, 7, "b.weight")));
  // n = 20000: the standard errors are 0.0035 for the mean and 0.0025 for the deviation.
  CHECK(std::abs(a.mean().item<double>()) < 4 * 0.0035);
  CHECK(std::abs(a.std().item<double>() - 0.5) < 4 * 0.0025);

  StateDict weights;
  nn::InitLayer(&weights, "conv", {32, 16, 3, 3}, true, 7);
  const double bound = 1 / std::sqrt(16.0 * 9);
  const at::Tensor& weight = weights.Get("conv.weight");
  CHECK(weight.abs().max().item<double>() <= bound);
  CHECK(weight.abs().max().item<double>() > 0.99 * bound);
  CHECK(weight.std().item<double>() == Approx(bound / std::sqrt(3.0)).epsilon(0.03));
  CHECK(weights.Get("conv.bias").abs().max().item<double>() <= bound);
  nn::InitLayer(&weights, "bare", {4, 4}, false, 7);
  CHECK_FALSE(weights.Contains("bare.bias"));
  nn::InitNorm(&weights, "norm", 3);
  CHECK(at::equal(weights.Get("norm.weight"), at::ones({3})));
  CHECK(at::equal(weights.Get("norm.bias"), at::zeros({3})));
}

}  // namespace
}  // namespace excise
