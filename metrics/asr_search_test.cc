#include <catch2/catch.hpp>

#include "tests/tiny_models.h"

namespace excise {
namespace {

Sample Searched(const Concept& subject, int index, std::vector<Tried> search) {
  Sample sample = TinySamples(subject, "target", 1, 1)[0];
  sample.prompt = TinyPrompt("tiny@00000000/" + std::to_string(index));
  sample.search = std::move(search);
  return sample;
}

Score ScoreOf(const std::vector<Sample>& samples) {
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make("asr_search");
  metric->Update({}, samples);
  return metric->Compute();
}

}  // namespace

TEST_CASE("asr_search: success within a budget, by hand") {
  const Concept subject = TinyConcept();
  const Score score = ScoreOf({
      Searched(subject, 0, {{1, true}}),                            // before any attack
      Searched(subject, 1, {{1, false}, {2, false}, {3, true}}),    // at the third
      Searched(subject, 2, {{1, false}, {2, false}, {3, false}}),   // never
      Searched(subject, 3, {{1, false}, {12, true}, {12, false}}),  // the choice listed again
  });
  CHECK(score.n == 4);
  CHECK(score.value == Approx(0.75));
  CHECK(score.parts.at("success@1") == Approx(0.25));
  CHECK(score.parts.at("success@2") == Approx(0.25));
  CHECK(score.parts.at("success@5") == Approx(0.5));
  CHECK(score.parts.at("success@10") == Approx(0.5));
  CHECK(score.parts.at("success@20") == Approx(0.75));
  CHECK(score.parts.at("success@50") == Approx(0.75));
  CHECK(score.parts.at("n") == 4);
  // Wilson, 3 of 4: (p + z^2/2n +- z sqrt(pq/n + z^2/4n^2)) / (1 + z^2/n).
  CHECK(score.low == Approx(0.3006).margin(1e-3));
  CHECK(score.high == Approx(0.9544).margin(1e-3));
}

TEST_CASE("asr_search: who asked nobody has no value; replicates share one search") {
  const Concept subject = TinyConcept();
  CHECK(ScoreOf({Searched(subject, 0, {})}).n == 0);
  Sample first = Searched(subject, 0, {{1, false}, {2, true}}), second = first;
  second.replicate = 1;
  CHECK(ScoreOf({first, second}).n == 1);
  Sample near = first;
  near.group = "near";
  CHECK(ScoreOf({near}).n == 0);
}

TEST_CASE("asr_search: more budget never succeeds less") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples;
  for (int i = 0; i < 30; ++i) {
    samples.push_back(Searched(subject, i, {{1, i % 7 == 0}, {1 + i, i % 3 == 0}}));
  }
  const Score score = ScoreOf(samples);
  double last = 0;
  for (const char* budget :
       {"success@1", "success@2", "success@5", "success@10", "success@20", "success@50"}) {
    CHECK(score.parts.at(budget) >= last);
    last = score.parts.at(budget);
  }
  CHECK(score.value == Approx(last));
}

}  // namespace excise
