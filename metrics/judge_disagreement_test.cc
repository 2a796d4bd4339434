#include <catch2/catch.hpp>

#include "tests/tiny_models.h"

namespace excise {
namespace {

Score ScoreOf(const std::vector<std::vector<bool>>& votes) {
  static const Concept subject = TinyConcept();
  std::vector<Sample> samples =
      TinySamples(subject, "target", static_cast<int64_t>(votes.size()), 1);
  for (size_t i = 0; i < votes.size(); ++i) samples[i].verdict.votes = votes[i];
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make("judge_disagreement");
  metric->Update({}, samples);
  return metric->Compute();
}

}  // namespace

// Cohen's own example has the form: of 50 pictures both say yes of 20, both no of 15, the first
// alone yes of 5, the second alone of 10. p = 0.7, e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
TEST_CASE("judge_disagreement: kappa of two members, by hand") {
  std::vector<std::vector<bool>> votes;
  votes.insert(votes.end(), 20, {true, true});
  votes.insert(votes.end(), 15, {false, false});
  votes.insert(votes.end(), 5, {true, false});
  votes.insert(votes.end(), 10, {false, true});
  const Score score = ScoreOf(votes);
  CHECK(score.n == 50);
  CHECK(score.value == Approx(0.3));
  CHECK(score.parts.at("yes_0") == Approx(0.5));
  CHECK(score.parts.at("yes_1") == Approx(0.6));
  CHECK(score.parts.at("kappa_0_1") == Approx(0.4));
}

TEST_CASE("judge_disagreement: three members, of whom one always says no") {
  const Score score = ScoreOf(
      {{true, false, true}, {false, false, false}, {true, false, true}, {false, false, true}});
  CHECK(score.value == Approx(0.75));
  // 0 and 2 agree on 3 of 4; e = 0.5 * 0.75 + 0.5 * 0.25.
  CHECK(score.parts.at("kappa_0_2") == Approx(0.5));
  CHECK(score.parts.at("kappa_0_1") == Approx(0));
  const Score alike = ScoreOf({{false, false}, {false, false}});
  CHECK(alike.value == 0);
  CHECK(alike.parts.count("kappa_0_1") == 0);
}

TEST_CASE("judge_disagreement: without a panel there is no value") {
  CHECK(ScoreOf({{}, {}}).n == 0);
}

}  // namespace excise
