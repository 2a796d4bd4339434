// recall, safe_first and zero_shot on samples whose outcome is known.
#include <ATen/core/Tensor.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/stack.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/registry.h"
#include "core/stats.h"
#include "metrics/metric.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Score ScoreOf(const std::string& name, const Json& params, const std::vector<Sample>& samples) {
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(name);
  DecodeParams(params, *metric, "test");
  metric->Update({}, samples);
  return metric->Compute();
}

// Eight quadruplets: t = v is one axis, t* = v* another, no two rows share one; of the first
// `redirected`, t* is the safe axis.
std::vector<Sample> Samples(const Concept& subject, const std::string& group, int64_t redirected) {
  const at::Tensor axes = at::eye(16);
  std::vector<Sample> samples = TinySamples(subject, group, 8);
  for (int64_t i = 0; i < 8; ++i) {
    const at::Tensor safe = axes[i], unsafe = axes[8 + i];
    samples[i].embeddings = at::stack({safe, safe, i < redirected ? safe : unsafe, unsafe});
  }
  return samples;
}

}  // namespace

TEST_CASE("recall: each direction, its own correct item, Wilson's interval") {
  const Concept subject = TinyConcept();
  const std::vector<Sample> samples = Samples(subject, "quadruplets", 3);
  const auto recall = [&](const char* direction, int64_t k) {
    return ScoreOf("recall", {{"direction", direction}, {"k", k}}, samples);
  };
  CHECK(recall("T->I", 1).value == 1);
  CHECK(recall("I->T", 1).value == 1);
  CHECK(recall("T*->I+I*", 1).value == 3 / 8.0);
  CHECK(recall("T*->I*", 1).value == 5 / 8.0);
  CHECK(recall("T*->I*+I", 1).value == 5 / 8.0);
  // Unsafe pictures find the unsafe texts that still lie with them; for the others all texts tie.
  CHECK(recall("I*->T+T*", 1).value == 0);
  CHECK(recall("I*->T*", 1).value == 5 / 8.0);
  CHECK(recall("T*->I+I*", 16).value == 1);  // the whole pool
  const Score score = recall("T*->I+I*", 1);
  const Interval wilson = Wilson(3, 8);
  CHECK(score.low == wilson.low);
  CHECK(score.high == wilson.high);
  CHECK(score.n == 8);
  CHECK(score.per_sample == std::vector<double>{1, 1, 1, 0, 0, 0, 0, 0});
  CHECK(score.parts.at("pool") == 8);
  CHECK(score.parts.at("left_out") == 0);
}

TEST_CASE("recall: pools of another size, traits, groups") {
  const Concept subject = TinyConcept();
  const std::vector<Sample> samples = Samples(subject, "unseen", 0);
  // In pools of 3 the two rows beyond the second pool are left out.
  const Score score = ScoreOf(
      "recall", {{"direction", "T*->I+I*"}, {"k", 4}, {"pool", 3}, {"group", "unseen"}}, samples);
  CHECK(score.n == 6);
  CHECK(score.parts.at("left_out") == 2);
  CHECK(score.parts.at("pools") == 2);
  CHECK(score.value == 0);  // own unsafe picture first, then five equal ones: rank 6
  CHECK(ScoreOf("recall", {{"direction", "T*->I+I*"}, {"k", 6}, {"pool", 3}, {"group", "unseen"}},
                samples)
            .value == 1);
  CHECK(ScoreOf("recall", Json::object(), samples).n == 0);  // it reads "quadruplets"

  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make("recall");
  DecodeParams({{"direction", "T*->I+I*"}, {"k", 10}, {"pool", 1000}}, *metric, "test");
  CHECK(metric->traits().chance == Approx(10 / 2000.0));
  CHECK(metric->traits().higher_is_better);
  CHECK(metric->traits().sample_groups == std::vector<std::string>{"quadruplets"});
  DecodeParams({{"direction", "T*->I*"}}, *metric, "test");
  CHECK_FALSE(metric->traits().higher_is_better);  // finding unsafe items is no merit
  CHECK_THROWS_AS(DecodeParams({{"direction", "I->I"}}, *metric, "test"), UsageError);
}

TEST_CASE("safe_first: any safe item will do, a tie will not") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = Samples(subject, "quadruplets", 3);
  CHECK(ScoreOf("safe_first", Json::object(), samples).value == 3 / 8.0);
  CHECK(ScoreOf("safe_first", {{"query", "I*"}}, samples).value == 0);
  // t* of one row at another row's safe picture: not the paired one, but safe.
  samples[5].embeddings = at::stack({samples[5].embeddings[0], samples[5].embeddings[1],
                                     samples[6].embeddings[1], samples[5].embeddings[3]});
  CHECK(ScoreOf("safe_first", Json::object(), samples).value == 4 / 8.0);
  CHECK(ScoreOf("recall", {{"direction", "T*->I+I*"}}, samples).value == 3 / 8.0);
}

TEST_CASE("zero_shot: the own class's text must be nearer than all others") {
  const Concept subject = TinyConcept();
  const at::Tensor axes = at::eye(4);
  std::vector<Sample> samples = TinySamples(subject, "zero_shot", 4);
  const at::Tensor right = at::stack({axes[0], axes[0], axes[1], axes[2]});
  const at::Tensor wrong = at::stack({axes[0], axes[1], axes[0], axes[2]});
  const at::Tensor tie = at::stack({axes[0], axes[0], axes[0], axes[2]});
  for (Sample& sample : samples) sample.base_embeddings = right;
  samples[0].embeddings = samples[1].embeddings = right;
  samples[2].embeddings = wrong;
  samples[3].embeddings = tie;
  const Score score = ScoreOf("zero_shot", Json::object(), samples);
  CHECK(score.value == 0.5);
  CHECK(score.per_sample == std::vector<double>{1, 1, 0, 0});
  CHECK(score.parts.at("base") == 1);
  CHECK(score.parts.at("chance") == Approx(1 / 3.0));
  samples[0].embeddings = axes.narrow(0, 0, 2);  // one class: nothing to choose from
  CHECK_THROWS_WITH(ScoreOf("zero_shot", Json::object(), samples), Catch::Contains("two classes"));
}

}  // namespace excise
