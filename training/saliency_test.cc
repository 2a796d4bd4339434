#include "training/saliency.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <limits>

#include "core/error.h"
#include "tests/testdata.h"
#include "training/trainer.h"

namespace excise {
namespace {

at::Tensor Vector(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

at::Tensor Bools(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong).to(at::kBool);
}

// Of three pairs (x, y), with residuals 1, -4 and 2 at these weights.
struct Regression {
  Regression() {
    weights.Set("w", Vector({1, 2}));
    weights.Set("b", Vector({0.5}));
    weights.Set("idle", Vector({9}));
  }
  at::Tensor operator()(const StateDict& at, int64_t sample) const {
    const std::vector<std::vector<double>> x = {{1, 0}, {2, 1}, {0, -1}};
    const std::vector<double> y = {0.5, 8.5, -3.5};
    const auto i = static_cast<size_t>(sample);
    return (at::dot(at.Get("w"), Vector(x[i])) + at.Get("b") - y[i]).square().sum() / 2;
  }
  StateDict weights;
};

// |p - c|^2 / 2: the gradient is p - c.
LossFunction Distance(const at::Tensor& c) {
  return [c](const StateDict& w, int64_t, int64_t) { return (w.Get("p") - c).square().sum() / 2; };
}

}  // namespace

// The gradient of (w x + b - y)^2 / 2 is r x and r, r the residual.
TEST_CASE("mean gradients and the Fisher diagonal of a linear regression, by hand") {
  const Regression loss;
  const std::vector<std::string> names = {"w", "b", "idle"};
  const StateDict mean = MeanGradients(loss.weights, names, 3, loss);
  CHECK(mean.Get("w").allclose(Vector({(1 - 8 + 0) / 3.0, (0 - 4 - 2) / 3.0}), 1e-14));
  CHECK(mean.Get("b").allclose(Vector({(1 - 4 + 2) / 3.0}), 1e-14));
  const StateDict fisher = FisherDiagonal(loss.weights, names, 3, loss);
  CHECK(fisher.Get("w").allclose(Vector({(1 + 64) / 3.0, (16 + 4) / 3.0}), 1e-14));
  CHECK(fisher.Get("b").allclose(Vector({(1 + 16 + 4) / 3.0}), 1e-14));
  CHECK(fisher.Get("idle").equal(Vector({0})));
  CHECK_FALSE(loss.weights.Get("w").requires_grad());

  CHECK_THROWS_AS(FisherDiagonal(loss.weights, names, 0, loss), UsageError);
  CHECK_THROWS_WITH(FisherDiagonal(loss.weights, {"idle"}, 3, loss), Catch::Contains("sample 0"));
  const auto broken = [&](const StateDict& at, int64_t sample) {
    return loss(at, sample) * (sample == 1 ? std::numeric_limits<double>::infinity() : 1);
  };
  CHECK_THROWS_WITH(FisherDiagonal(loss.weights, names, 3, broken), Catch::Contains("sample 1"));
}

TEST_CASE("masks take the largest scores over all tensors, or those above a threshold") {
  StateDict scores;
  scores.Set("a", Vector({3, -1, 0}));
  scores.Set("b", Vector({-2, 0.5}));
  const auto is = [&](const StateDict& mask, const at::Tensor& a, const at::Tensor& b) {
    return mask.size() == 2 && mask.Get("a").equal(a) && mask.Get("b").equal(b);
  };
  CHECK(is(LargestMask(scores, 0.5), Bools({1, 0, 0}), Bools({1, 0})));  // 2 of 5
  CHECK(is(LargestMask(scores, 0.6), Bools({1, 1, 0}), Bools({1, 0})));
  CHECK(is(LargestMask(scores, 1), Bools({1, 1, 0}), Bools({1, 1})));  // never a score of 0
  CHECK(is(AboveMask(scores, 1), Bools({1, 0, 0}), Bools({1, 0})));
  StateDict equal;
  equal.Set("a", Vector({1, -1, 1, 0.5}));
  CHECK(LargestMask(equal, 0.25).Get("a").equal(Bools({1, 1, 1, 0})));
  CHECK_THROWS_WITH(LargestMask(scores, 0.1), Catch::Contains("takes none"));
  CHECK_THROWS_AS(LargestMask(scores, 1.5), UsageError);
  scores.Set("a", Vector({std::numeric_limits<double>::quiet_NaN()}));
  CHECK_THROWS_WITH(LargestMask(scores, 0.5), Catch::Contains("'a'"));
}

TEST_CASE("training moves what the mask allows, and the rest stays bit for bit") {
  StateDict net;
  net.Set("p", Vector({0, 0, 0.1}));
  TrainSpec spec;
  spec.steps = 1;
  spec.optimizer = {"sgd", 0.5};
  spec.mask.Set("p", Bools({1, 0, 1}));
  const at::Tensor c = Vector({4, 6, -8});
  const TrainResult once = Train(net, {"p"}, spec, Distance(c));
  CHECK(once.weights.Get("p").allclose(Vector({2, 0, 0.1 + 0.5 * -8.1}), 1e-14));

  // What is held still does not enter the norm: of (-3, -4, held) it is 5.
  spec.optimizer.lr = 1;
  spec.clip_norm = 1;
  spec.mask.Set("p", Bools({1, 1, 0}));
  const TrainResult clipped = Train(net, {"p"}, spec, Distance(Vector({3, 4, 100})));
  CHECK(clipped.weights.Get("p").allclose(Vector({0.6, 0.8, 0.1}), 1e-6));

  spec.optimizer = {"adam", 0.1};
  spec.steps = 20;
  spec.ema_decay = 0.9;
  const at::Tensor after = Train(net, {"p"}, spec, Distance(c)).weights.Get("p");
  CHECK(after[2].equal(net.Get("p")[2]));
  CHECK((after - net.Get("p")).abs().narrow(0, 0, 2).min().item<double>() > 0.1);
}

TEST_CASE("a mask that does not fit is refused, and so is another one on the way") {
  StateDict net;
  net.Set("p", Vector({0, 0}));
  net.Set("q", Vector({0, 0}));
  TrainSpec spec;
  spec.steps = 2;
  spec.optimizer = {"adam", 0.1};
  const LossFunction loss = Distance(Vector({1, 1}));
  const auto run = [&] { return Train(net, {"p"}, spec, loss); };
  spec.mask.Set("p", Bools({1, 0, 1}));
  CHECK_THROWS_WITH(run(), Catch::Contains("bool of [2]"));
  spec.mask.Set("p", at::ones({2}));
  CHECK_THROWS_WITH(run(), Catch::Contains("Float"));
  spec.mask.Set("p", Bools({1, 0}));
  spec.optimizer.weight_decay = 0.1;
  CHECK_THROWS_WITH(run(), Catch::Contains("weight_decay"));
  spec.optimizer.weight_decay = 0;
  spec.checkpoint = TestFolder("mask") / "c.safetensors";
  spec.checkpoint_every = 1;
  run();
  spec.mask.Set("p", Bools({0, 1}));
  CHECK_THROWS_WITH(run(), Catch::Contains("/mask"));
  spec.mask.Set("q", Bools({0, 1}));
  CHECK_THROWS_WITH(run(), Catch::Contains("'q'"));
}

}  // namespace excise
