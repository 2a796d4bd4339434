// Reference values: torch.optim 2.11.0 (tools/make_training_fixtures.py).
#include "training/optimizers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a - b).abs().max().item<double>();
}

struct Case {
  std::string name;
  OptimizerSpec spec;
  double clip_norm = 0;
};

std::vector<Case> Cases() {
  OptimizerSpec sgd{"sgd", 0.1}, momentum{"sgd", 0.1}, adam{"adam", 0.01, 0.8, 0.95, 1e-6, 0.1};
  momentum.momentum = 0.9;
  momentum.weight_decay = 0.01;
  OptimizerSpec adamw = adam, clipped{"adamw", 0.01};
  adamw.name = "adamw";
  clipped.eps = 1e-3;
  return {{"sgd", sgd},
          {"sgd_momentum", momentum},
          {"adam", adam},
          {"adamw", adamw},
          {"adamw_clip", clipped, 0.05}};
}

// Five steps on the fixture's linear regression; calls `check` after each.
template <typename Check>
void RunSteps(const StateDict& fixture, const Case& c, const Check& check) {
  const at::Tensor x = fixture.Get("problem.x"), y = fixture.Get("problem.y");
  at::Tensor weight = fixture.Get("problem.weight").clone().set_requires_grad(true);
  at::Tensor bias = fixture.Get("problem.bias").clone().set_requires_grad(true);
  Optimizer optimizer(c.spec, {"weight", "bias"}, {weight, bias});
  for (int64_t step = 0; step < 5; ++step) {
    const at::Tensor loss = at::mse_loss(at::linear(x, weight, bias), y);
    std::vector<at::Tensor> gradients = Gradients(loss, {weight, bias});
    if (c.clip_norm > 0) ClipByNorm(&gradients, c.clip_norm, GlobalNorm(gradients));
    optimizer.Step(gradients);
    check(step, loss.item<double>(), weight, bias);
  }
}

TEST_CASE("Optimizers follow torch.optim for five steps") {
  const StateDict fixture = LoadSafetensors(RepoFile("tests/fixtures/training.safetensors"));
  for (const Case& c : Cases()) {
    INFO(c.name);
    RunSteps(fixture, c, [&](int64_t step, double loss, const at::Tensor& w, const at::Tensor& b) {
      INFO("step " << step);
      CHECK(MaxDifference(w.detach(), fixture.Get(c.name + ".weight")[step]) < 1e-6);
      CHECK(MaxDifference(b.detach(), fixture.Get(c.name + ".bias")[step]) < 1e-6);
      CHECK(loss == Approx(fixture.Get(c.name + ".loss")[step].item<double>()).epsilon(1e-6));
    });
  }
}

TEST_CASE("The reference cases differ from each other by more than the tolerance") {
  const StateDict fixture = LoadSafetensors(RepoFile("tests/fixtures/training.safetensors"));
  const std::vector<Case> cases = Cases();
  for (size_t i = 0; i < cases.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      CHECK(MaxDifference(fixture.Get(cases[i].name + ".weight")[4],
                          fixture.Get(cases[j].name + ".weight")[4]) > 1e-4);
    }
  }
}

TEST_CASE("Adam's first steps by hand") {
  // One parameter 1, gradient 2 then 2: bias correction makes m^ = 2 and v^ = 4 at both steps, so
  // each step is lr * 2 / (2 + eps) = lr.
  at::Tensor p = at::ones({1}, at::kDouble);
  Optimizer adam({"adam", 0.25, 0.9, 0.999, 0.0}, {"p"}, {p});
  const at::Tensor g = at::full({1}, 2.0, at::kDouble);
  adam.Step({g});
  CHECK(p.item<double>() == Approx(0.75).epsilon(1e-12));
  adam.Step({g}, 0.5);
  CHECK(p.item<double>() == Approx(0.625).epsilon(1e-12));
  // Decoupled decay multiplies by 1 - lr * decay before the step.
  at::Tensor q = at::ones({1}, at::kDouble);
  OptimizerSpec spec{"adamw", 0.25, 0.9, 0.999, 0.0, 0.4};
  Optimizer({spec}, {"q"}, {q}).Step({g});
  CHECK(q.item<double>() == Approx(0.9 - 0.25).epsilon(1e-12));
}

TEST_CASE("A parameter without gradient is left alone, its step count too") {
  for (const std::string name : {"sgd", "adam", "adamw"}) {
    INFO(name);
    at::Tensor a = at::ones({3}), b = at::ones({3});
    OptimizerSpec spec{name, 0.1};
    spec.weight_decay = 0.5;
    Optimizer optimizer(spec, {"a", "b"}, {a, b});
    optimizer.Step({at::ones({3}), at::Tensor()});
    optimizer.Step({at::ones({3}), at::Tensor()});
    CHECK(a.max().item<double>() < 1);
    CHECK(b.equal(at::ones({3})));
    const at::Tensor steps = optimizer.State().Get("steps");
    CHECK(steps[0].item<double>() == 2);
    CHECK(steps[1].item<double>() == 0);
  }
}

TEST_CASE("A saved state goes on bit for bit, and does not fit another model") {
  const StateDict fixture = LoadSafetensors(RepoFile("tests/fixtures/training.safetensors"));
  const OptimizerSpec spec{"adamw", 0.01, 0.8, 0.95, 1e-6, 0.1};
  at::Tensor p = fixture.Get("problem.weight").clone(), q = p.clone();
  Optimizer whole(spec, {"p"}, {p}), first(spec, {"p"}, {q});
  const at::Tensor g = fixture.Get("problem.weight") * 0.3;
  whole.Step({g});
  first.Step({g});
  Optimizer second(spec, {"p"}, {q});
  second.Load(first.State());
  whole.Step({g * -2.0});
  second.Step({g * -2.0});
  CHECK(p.equal(q));
  // Without the moments the second step is another one.
  Optimizer fresh(spec, {"p"}, {q});
  whole.Step({g});
  fresh.Step({g});
  CHECK_FALSE(p.equal(q));
  Optimizer other(spec, {"p"}, {at::zeros({2})});
  CHECK_THROWS_AS(other.Load(first.State()), Error);
  Optimizer renamed(spec, {"r"}, {at::zeros({4, 3})});
  CHECK_THROWS_AS(renamed.Load(first.State()), Error);
}

TEST_CASE("The global norm and clipping by hand") {
  std::vector<at::Tensor> tensors = {at::full({1}, 3.0), at::Tensor(), at::full({4}, 2.0)};
  CHECK(GlobalNorm(tensors) == Approx(5.0));
  ClipByNorm(&tensors, 10, 5);
  CHECK(tensors[0].item<double>() == 3.0);
  ClipByNorm(&tensors, 1, 5);
  CHECK(tensors[0].item<double>() == Approx(0.6).epsilon(1e-5));
  CHECK(GlobalNorm(tensors) == Approx(1.0).epsilon(1e-5));
  CHECK(GlobalNorm({at::Tensor()}) == 0);
}

TEST_CASE("Bad optimizer settings are refused by name") {
  const at::Tensor p = at::ones({2});
  const auto make = [&](const OptimizerSpec& spec) { Optimizer(spec, {"p"}, {p}); };
  CHECK_THROWS_WITH(make({"adamx"}), Catch::Contains("Did you mean 'adam"));
  CHECK_THROWS_WITH(make({"adam", -1.0}), Catch::Contains("optimizer.lr"));
  CHECK_THROWS_WITH(make({"adam", 1e-3, 1.0}), Catch::Contains("beta1"));
  CHECK_THROWS_WITH(make({"adam", 1e-3, 0.9, 0.999, 1e-8, -0.1}), Catch::Contains("weight_decay"));
  CHECK_THROWS_WITH(make({"adam", NAN}), Catch::Contains("optimizer.lr"));
  OptimizerSpec spec{"adam"};
  spec.momentum = 0.9;
  CHECK_THROWS_WITH(make(spec), Catch::Contains("momentum"));
  CHECK_THROWS_WITH(Optimizer({}, {"h"}, {at::ones({2}, at::kHalf)}), Catch::Contains("'h'"));
}

}  // namespace
}  // namespace excise
