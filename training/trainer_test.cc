#include "training/trainer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/error.h"
#include "core/random.h"
#include "models/nets/nn.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "training/losses.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

StateDict SmallNet() {
  StateDict net;
  net.Set("layer.weight", nn::InitUniform({4, 3}, 0.5, 1, "layer.weight"));
  net.Set("layer.bias", at::zeros({4}));
  net.Set("frozen.weight", at::ones({2}));
  net.Set("norm.running_mean", at::zeros({4}));
  net.Set("norm.num_batches_tracked", at::zeros({}, at::kLong));
  return net;
}
const std::vector<std::string> kNames = {"layer.bias", "layer.weight"};

// Regression on data drawn for (step, micro), with statistics updated in place as batch norm does.
at::Tensor NoisyLoss(const StateDict& w, int64_t step, int64_t micro) {
  at::Tensor data = at::empty({6, 7});
  Philox({9, "data", static_cast<uint64_t>(micro), Stream::kData, static_cast<uint64_t>(step)})
      .FillNormal(data.data_ptr<float>(), 42);
  const at::Tensor y = at::linear(data.slice(1, 0, 3), w.Get("layer.weight"), w.Get("layer.bias"));
  at::Tensor mean = w.Get("norm.running_mean"), count = w.Get("norm.num_batches_tracked");
  mean.mul_(0.9).add_(y.detach().mean(0), 0.1);
  count.add_(1);
  return at::mse_loss(y - mean.detach().clone(), data.slice(1, 3, 7));
}

bool SameWeights(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    if (!tensor.equal(b.Get(name))) return false;
  }
  return true;
}

TrainSpec FullSpec() {
  TrainSpec spec;
  spec.steps = 6;
  spec.accumulate = 2;
  spec.optimizer = {"adamw", 0.05, 0.9, 0.99, 1e-8, 0.01};
  spec.schedule = {"cosine", 1, 1, 0.1};
  spec.clip_norm = 0.5;
  spec.ema_decay = 0.9;
  spec.label = "small";
  return spec;
}

TEST_CASE("Schedules: closed forms") {
  const ScheduleSpec constant{"constant", 4, 0, 0};
  CHECK(ScheduleFactor(constant, 0, 100) == 0.0);
  CHECK(ScheduleFactor(constant, 1, 100) == 0.25);
  CHECK(ScheduleFactor(constant, 4, 100) == 1.0);
  CHECK(ScheduleFactor(constant, 99, 100) == 1.0);
  CHECK(ScheduleFactor({}, 0, 10) == 1.0);

  // Steps 0..1 warm up, 2..4 hold, the decay runs from step 5 (full) to step 15 (the last).
  const ScheduleSpec linear{"linear", 2, 3, 0.2}, cosine{"cosine", 2, 3, 0.2};
  for (int64_t step = 2; step <= 5; ++step) {
    CHECK(ScheduleFactor(linear, step, 16) == 1.0);
    CHECK(ScheduleFactor(cosine, step, 16) == 1.0);
  }
  for (int64_t step = 5; step <= 15; ++step) {
    const double p = static_cast<double>(step - 5) / 10;
    CHECK(ScheduleFactor(linear, step, 16) == Approx(1 - 0.8 * p));
    CHECK(ScheduleFactor(cosine, step, 16) == Approx(0.2 + 0.4 * (1 + std::cos(M_PI * p))));
  }
  CHECK(ScheduleFactor(cosine, 10, 16) == Approx(0.6));
  CHECK(ScheduleFactor(cosine, 40, 16) == Approx(0.2));  // beyond the end
  CHECK(ScheduleFactor({"linear", 0, 0, 0}, 0, 1) == 1.0);
  CHECK_THROWS_WITH(ScheduleFactor({"cosin", 0, 0, 0}, 0, 1),
                    Catch::Contains("Did you mean 'cosine'"));
  CHECK_THROWS_AS(ScheduleFactor({"linear", -1, 0, 0}, 0, 1), UsageError);
}

TEST_CASE("SelectParameters: patterns, exceptions, errors") {
  const StateDict net = SmallNet();
  CHECK(SelectParameters(net, {"layer"}) == kNames);
  CHECK(SelectParameters(net, {"^layer\\.bias$", "frozen"}) ==
        std::vector<std::string>{"frozen.weight", "layer.bias"});
  // Statistics and integer tensors are never parameters.
  CHECK(SelectParameters(net, {"."}).size() == 3);
  CHECK(SelectParameters(net, {"."}, {"weight$"}) == std::vector<std::string>{"layer.bias"});
  CHECK_THROWS_WITH(SelectParameters(net, {"layer", "layer.wieght"}),
                    Catch::Contains("'layer.wieght'") && Catch::Contains("'layer.weight'"));
  CHECK_THROWS_AS(SelectParameters(net, {"layer"}, {"layer"}), UsageError);
  CHECK_THROWS_AS(SelectParameters(net, {}), UsageError);
  CHECK_THROWS_WITH(SelectParameters(net, {"layer("}), Catch::Contains("regular expression"));
}

TEST_CASE("Train follows torch for five steps, losses included") {
  const StateDict fixture = LoadSafetensors(RepoFile("tests/fixtures/training.safetensors"));
  StateDict net;
  net.Set("weight", fixture.Get("problem.weight"));
  net.Set("bias", fixture.Get("problem.bias"));
  TrainSpec spec;
  spec.steps = 5;
  spec.optimizer = {"adamw", 0.01, 0.9, 0.999, 1e-3};
  spec.clip_norm = 0.05;
  const TrainResult result =
      Train(net, {"weight", "bias"}, spec, [&](const StateDict& w, int64_t, int64_t) {
        return at::mse_loss(at::linear(fixture.Get("problem.x"), w.Get("weight"), w.Get("bias")),
                            fixture.Get("problem.y"));
      });
  for (const std::string name : {"weight", "bias"}) {
    CHECK((result.weights.Get(name) - fixture.Get("adamw_clip." + name)[4])
              .abs()
              .max()
              .item<double>() < 1e-6);
  }
  REQUIRE(result.losses.size() == 5);
  for (int64_t i = 0; i < 5; ++i) {
    CHECK(result.losses[static_cast<size_t>(i)] ==
          Approx(fixture.Get("adamw_clip.loss")[i].item<double>()).epsilon(1e-6));
  }
}

TEST_CASE("The initial weights are never changed and frozen ones are shared") {
  const StateDict net = SmallNet();
  StateDict before;
  for (const auto& [name, tensor] : net) before.Set(name, tensor.clone());
  const TrainResult result = Train(net, kNames, FullSpec(), NoisyLoss);
  CHECK(SameWeights(net, before));
  CHECK(result.weights.Get("frozen.weight").data_ptr() == net.Get("frozen.weight").data_ptr());
  CHECK_FALSE(result.weights.Get("layer.weight").requires_grad());
  CHECK_FALSE(result.weights.Get("layer.weight").equal(net.Get("layer.weight")));
  CHECK(result.weights.Get("norm.num_batches_tracked").item<int64_t>() == 12);
  CHECK(result.steps_run == 6);
  CHECK_FALSE(result.stopped_early);
}

TEST_CASE("A run killed after any step resumes bit for bit") {
  const StateDict net = SmallNet();
  const TrainResult whole = Train(net, kNames, FullSpec(), NoisyLoss);
  const fs::path folder = TestFolder("resume");
  for (int64_t killed_at = 0; killed_at <= 6; ++killed_at) {
    for (const int64_t every : {1, 2}) {
      INFO("killed at step " << killed_at << ", checkpoint every " << every);
      TrainSpec spec = FullSpec();
      spec.checkpoint = folder / ("at" + std::to_string(killed_at * 10 + every));
      spec.checkpoint_every = every;
      int64_t evaluations = 0;
      const auto killer = [&](const StateDict& w, int64_t step, int64_t micro) {
        ++evaluations;
        // In the middle of a step: after its first micro-batch moved the statistics.
        if (step == killed_at && micro == 1) throw std::runtime_error("killed");
        return NoisyLoss(w, step, micro);
      };
      if (killed_at < 6) {
        CHECK_THROWS_WITH(Train(net, kNames, spec, killer), "killed");
      } else {
        Train(net, kNames, spec, killer);
      }
      CHECK(fs::exists(spec.checkpoint) == (killed_at >= every));
      evaluations = 0;
      const TrainResult resumed =
          Train(net, kNames, spec, [&](const StateDict& w, int64_t step, int64_t micro) {
            ++evaluations;
            return NoisyLoss(w, step, micro);
          });
      CHECK(evaluations == 2 * (6 - killed_at / every * every));
      CHECK(SameWeights(resumed.weights, whole.weights));
      CHECK(resumed.losses == whole.losses);
      CHECK(resumed.steps_run == 6);
    }
  }
}

TEST_CASE("A checkpoint of other settings or another model is refused") {
  const StateDict net = SmallNet();
  TrainSpec spec = FullSpec();
  spec.checkpoint = TestFolder("refused") / "c.safetensors";
  spec.checkpoint_every = 3;
  Train(net, kNames, spec, NoisyLoss);
  TrainSpec other = spec;
  other.optimizer.lr = 0.01;
  CHECK_THROWS_WITH(Train(net, kNames, other, NoisyLoss), Catch::Contains("/lr"));
  other = spec;
  other.steps = 7;  // a cosine over seven steps has another rate at every step
  CHECK_THROWS_WITH(Train(net, kNames, other, NoisyLoss), Catch::Contains("/steps"));
  CHECK_THROWS_WITH(Train(net, {"layer.bias"}, spec, NoisyLoss), Catch::Contains("/parameters"));
  StateDict wider = net;
  wider.Set("layer.weight", at::ones({4, 5}));
  CHECK_THROWS_WITH(Train(wider, kNames, spec, NoisyLoss), Catch::Contains("layer.weight"));
}

TEST_CASE("A constant schedule can be prolonged") {
  const StateDict net = SmallNet();
  TrainSpec spec = FullSpec();
  spec.schedule = {};
  const TrainResult whole = Train(net, kNames, spec, NoisyLoss);
  spec.checkpoint = TestFolder("prolonged") / "c.safetensors";
  spec.checkpoint_every = 100;  // the last step is always saved
  spec.steps = 4;
  Train(net, kNames, spec, NoisyLoss);
  spec.steps = 6;
  CHECK(SameWeights(Train(net, kNames, spec, NoisyLoss).weights, whole.weights));
}

TEST_CASE("Accumulated micro-batches equal the big batch") {
  StateDict net;
  net.Set("w", nn::InitUniform({5, 8}, 0.5, 3, "w"));
  at::Tensor x = at::empty({12, 8}), y = at::empty({12, 5});
  Philox({1, "x"}).FillNormal(x.data_ptr<float>(), 96);
  Philox({1, "y"}).FillNormal(y.data_ptr<float>(), 60);
  const auto run = [&](int64_t micros, bool cosine) {
    TrainSpec spec;
    spec.steps = 3;
    spec.accumulate = micros;
    spec.optimizer = {"sgd", 0.2};
    return Train(net, {"w"}, spec, [&](const StateDict& w, int64_t, int64_t micro) {
      const int64_t size = 12 / micros;
      const at::Tensor prediction =
          at::linear(x.slice(0, micro * size, (micro + 1) * size), w.Get("w"));
      const at::Tensor target = y.slice(0, micro * size, (micro + 1) * size);
      return (cosine ? CosineDistances(prediction, target) : MseLosses(prediction, target)).mean();
    });
  };
  for (const bool cosine : {false, true}) {
    const TrainResult big = run(1, cosine);
    for (const int64_t micros : {2, 3, 12}) {
      const TrainResult small = run(micros, cosine);
      CHECK((small.weights.Get("w") - big.weights.Get("w")).abs().max().item<double>() < 1e-6);
      for (size_t i = 0; i < 3; ++i) CHECK(small.losses[i] == Approx(big.losses[i]).epsilon(1e-6));
    }
    CHECK((big.weights.Get("w") - net.Get("w")).abs().max().item<double>() > 1e-3);
  }
}

TEST_CASE("The average is what is returned and validated") {
  StateDict net;
  net.Set("p", at::zeros({1}, at::kDouble));
  TrainSpec spec;
  spec.steps = 3;
  spec.optimizer = {"sgd", 1.0};
  spec.ema_decay = 0.15;  // 1/10, then 2/11 capped to 0.15
  spec.validate_every = 1;
  std::vector<double> seen;
  // Gradient -1: p is 1, 2, 3 after the steps.
  const TrainResult result = Train(
      net, {"p"}, spec, [](const StateDict& w, int64_t, int64_t) { return -w.Get("p").sum(); },
      [&](const StateDict& w) {
        CHECK_FALSE(w.Get("p").requires_grad());
        seen.push_back(w.Get("p").item<double>());
        return 1.0;
      });
  const double e1 = 0.9 * 1, e2 = 0.15 * e1 + 0.85 * 2, e3 = 0.15 * e2 + 0.85 * 3;
  REQUIRE(seen.size() == 3);
  CHECK(seen[0] == Approx(e1).epsilon(1e-12));
  CHECK(seen[1] == Approx(e2).epsilon(1e-12));
  CHECK(result.weights.Get("p").item<double>() == Approx(e3).epsilon(1e-12));
}

// p grows by one a step; the validation is best at p = 4.
TrainResult RunWithPatience(const fs::path& checkpoint, int64_t kill_at = -1) {
  StateDict net;
  net.Set("p", at::zeros({1}));
  net.Set("running_mean", at::zeros({1}));
  TrainSpec spec;
  spec.steps = 20;
  spec.optimizer = {"sgd", 1.0};
  spec.validate_every = 2;
  spec.patience = 2;
  spec.checkpoint = checkpoint;
  spec.checkpoint_every = checkpoint.empty() ? 0 : 1;
  return Train(
      net, {"p"}, spec,
      [&](const StateDict& w, int64_t step, int64_t) {
        if (step == kill_at) throw std::runtime_error("killed");
        at::Tensor buffer = w.Get("running_mean");
        buffer.add_(1);
        return -w.Get("p").sum();
      },
      [](const StateDict& w) { return std::abs(w.Get("p").item<double>() - 4); });
}

TEST_CASE("Early stopping keeps the best validation's weights, resumed or not") {
  const auto check = [](const TrainResult& result) {
    CHECK(result.stopped_early);
    CHECK(result.steps_run == 8);
    CHECK(result.validations == std::vector<double>{2, 0, 2, 4});
    CHECK(result.weights.Get("p").item<double>() == 4);
    CHECK(result.weights.Get("running_mean").item<double>() == 4);
  };
  check(RunWithPatience({}));
  const fs::path file = TestFolder("patience") / "c.safetensors";
  CHECK_THROWS(RunWithPatience(file, 7));
  check(RunWithPatience(file));
  check(RunWithPatience(file));  // a finished run stays finished
}

// The first criterion is best at p = 2, the second at p = 8: patience of 2 counts from the later.
TrainResult RunWithTwoCriteria(const fs::path& checkpoint, int64_t kill_at = -1) {
  StateDict net;
  net.Set("p", at::zeros({1}));
  TrainSpec spec;
  spec.steps = 40;
  spec.optimizer = {"sgd", 1.0};
  spec.validate_every = 2;
  spec.patience = 2;
  spec.checkpoint = checkpoint;
  spec.checkpoint_every = 1;
  return Train(
      net, {"p"}, spec,
      [&](const StateDict& w, int64_t step, int64_t) {
        if (step == kill_at) throw std::runtime_error("killed");
        return -w.Get("p").sum();
      },
      [](const StateDict& w) -> Validation {
        const double p = w.Get("p").item<double>();
        return std::vector<double>{std::abs(p - 2), std::abs(p - 8)};
      });
}

TEST_CASE("With two criteria patience ends when neither improves, and both best ones are kept") {
  const auto check = [](const TrainResult& result) {
    CHECK(result.steps_run == 12);  // 8 + two validations without a new best of either
    CHECK(result.validations == std::vector<double>{0, 6, 2, 4, 4, 2, 6, 0, 8, 2, 10, 4});
    REQUIRE(result.best.size() == 2);
    CHECK(result.best[0].Get("p").item<double>() == 2);
    CHECK(result.best[1].Get("p").item<double>() == 8);
    CHECK(result.weights.Get("p").item<double>() == 2);
  };
  check(RunWithTwoCriteria(TestFolder("two_criteria") / "c.safetensors"));
  for (const int64_t kill_at : {3, 7, 9, 11}) {
    const fs::path file = TestFolder("two_killed" + std::to_string(kill_at)) / "c.safetensors";
    CHECK_THROWS(RunWithTwoCriteria(file, kill_at));
    check(RunWithTwoCriteria(file));
  }
}

TEST_CASE("A validation must keep its criteria") {
  StateDict net;
  net.Set("p", at::zeros({1}));
  TrainSpec spec;
  spec.steps = 4;
  spec.validate_every = 1;
  int64_t calls = 0;
  const auto loss = [](const StateDict& w, int64_t, int64_t) { return w.Get("p").sum(); };
  CHECK_THROWS_WITH(Train(net, {"p"}, spec, loss,
                          [&](const StateDict&) -> Validation {
                            return std::vector<double>(static_cast<size_t>(++calls), 1.0);
                          }),
                    Catch::Contains("2 values after 1"));
  CHECK_THROWS_AS(Train(net, {"p"}, spec, loss,
                        [](const StateDict&) -> Validation { return std::vector<double>{}; }),
                  Error);
}

TEST_CASE("A loss or gradient that is not finite stops the run and names the step") {
  const StateDict net = SmallNet();
  TrainSpec spec = FullSpec();
  spec.accumulate = 1;
  const auto poisoned = [](int64_t at_step, double factor) {
    return [=](const StateDict& w, int64_t step, int64_t micro) {
      const at::Tensor loss = NoisyLoss(w, step, micro);
      return step == at_step ? loss * factor : loss;
    };
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(Train(net, kNames, spec, poisoned(3, nan)),
                    Catch::Contains("'small'") && Catch::Contains("the loss is nan at step 3") &&
                        Catch::Contains("No checkpoint"));
  spec.checkpoint = TestFolder("nonfinite") / "c.safetensors";
  spec.checkpoint_every = 2;
  CHECK_THROWS_WITH(Train(net, kNames, spec, poisoned(3, nan)),
                    Catch::Contains("checkpoint of step 2 still stands"));
  // A finite loss with an infinite slope: sqrt at zero.
  spec.checkpoint.clear();
  spec.checkpoint_every = 0;
  CHECK_THROWS_WITH(
      Train(net, kNames, spec,
            [](const StateDict& w, int64_t, int64_t) { return w.Get("layer.bias").sqrt().sum(); }),
      Catch::Contains("the gradient norm is inf at step 0"));
}

TEST_CASE("Wrong uses of Train are refused before any work") {
  const StateDict net = SmallNet();
  const auto refuse = [&](const std::vector<std::string>& names, const TrainSpec& spec,
                          const std::string& word) {
    bool called = false;
    CHECK_THROWS_WITH(Train(net, names, spec,
                            [&](const StateDict& w, int64_t step, int64_t micro) {
                              called = true;
                              return NoisyLoss(w, step, micro);
                            }),
                      Catch::Contains(word));
    CHECK_FALSE(called);
  };
  TrainSpec spec = FullSpec();
  refuse({}, spec, "no parameters");
  refuse({"layer.bias", "layer.bias"}, spec, "twice");
  refuse({"norm.running_mean"}, spec, "statistic");
  refuse({"layer.biass"}, spec, "layer.biass");
  spec.checkpoint_every = 1;
  refuse(kNames, spec, "checkpoint");
  spec = FullSpec();
  spec.steps = 0;
  refuse(kNames, spec, "steps");
  spec = FullSpec();
  spec.validate_every = 1;
  refuse(kNames, spec, "validat");
  spec = FullSpec();
  spec.schedule.name = "step";
  refuse(kNames, spec, "schedule");
  CHECK_THROWS_WITH(
      Train(net, kNames, FullSpec(),
            [](const StateDict& w, int64_t, int64_t) { return w.Get("frozen.weight").sum(); }),
      Catch::Contains("does not depend"));
  CHECK_THROWS_WITH(
      Train(net, kNames, FullSpec(),
            [](const StateDict& w, int64_t, int64_t) { return w.Get("layer.bias") * 1.0; }),
      Catch::Contains("not a scalar"));
}

}  // namespace
}  // namespace excise
