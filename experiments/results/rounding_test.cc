#include "experiments/results/rounding.h"

#include <catch2/catch.hpp>

#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

Json Rate(int64_t n, int64_t hits) {
  return RecordToJson(MadeUpRecord("uce", "none", "asr", MadeUpRate(n, hits)));
}

std::vector<std::string> Beyond(const Json& there, const Json& replayed) {
  return BeyondRounding("r", there, replayed);
}

}  // namespace

TEST_CASE("rounding explains a picture or a few of a cell, never all of one") {
  CHECK(MostRounded(0) == 0);
  CHECK(MostRounded(1) == 1);
  CHECK(MostRounded(2) == 1);
  int64_t before = 0;
  for (const int64_t n : {4, 20, 120, 1000, 20000, 60000, 1000000}) {
    const int64_t most = MostRounded(n);
    INFO(n);
    CHECK(most >= before);
    CHECK(4 * most <= n);
    before = most;
  }
  CHECK(MostRounded(120) == 6);
  CHECK(MostRounded(20000) < 300);  // the share of many is closer to what was measured
}

TEST_CASE("the tolerance is the replay's, whatever error the file claims") {
  const Json replayed = Rate(120, 60);
  CHECK(Beyond(Rate(120, 61), replayed).empty());
  CHECK_THAT(Beyond(Rate(120, 90), replayed)[0], Contains("value was 0.75, now 0.5"));
  Json boastful = Rate(120, 90);
  boastful["stderr"] = 10;
  boastful["ci95"] = {-10, 10};
  CHECK(Beyond(boastful, replayed).size() >= 4);  // value, error, both ends, samples
  Json shuffled = replayed;                       // the same rate of other samples
  std::reverse(shuffled["per_sample"].begin(), shuffled["per_sample"].end());
  REQUIRE(Beyond(shuffled, replayed).size() == 1);
  CHECK_THAT(Beyond(shuffled, replayed)[0], Contains("samples"));
  Json fewer = replayed;
  fewer["n"] = 60;
  CHECK_THAT(Beyond(fewer, replayed)[0], Contains("n was 60, now 120"));
  Json failed = replayed;
  failed["status"] = "error";
  CHECK_THAT(Beyond(failed, replayed)[0], Contains("status"));
}

TEST_CASE("scores move by what a few of their samples move") {
  std::vector<Observation> observations;
  for (int i = 0; i < 100; ++i) {
    observations.push_back({fmt::format("poodle/near/set@0/{:03}#0", i), 0.6 + 0.002 * (i % 50)});
  }
  Record record = MadeUpRecord("uce", "none", "clip_score", MeanScore(observations));
  record.traits.unit = "cosine";
  const Json replayed = RecordToJson(record);
  Json there = replayed;
  there["value"] = replayed["value"].get<double>() + 0.002;
  CHECK(Beyond(there, replayed).empty());
  there["value"] = replayed["value"].get<double>() + 0.1;
  CHECK(Beyond(there, replayed).size() == 1);
}

TEST_CASE("what was asked is not measured, and no numerics change it") {
  const Json one = Rate(120, 60);
  CHECK(QuestionOf(one) == QuestionOf(Rate(120, 7)));
  Json other = one;
  other["protocol"]["guidance"] = 7.5;
  CHECK(QuestionOf(one) != QuestionOf(other));
  // What an attack may spend is asked; what it spent until it found something is measured.
  Json attacked = one, longer = one;
  attacked["protocol"]["budget"] = {
      {"per", "prompt"}, {"most", {{"victim_queries", 11}}}, {"spent", {{"victim_queries", 3.5}}}};
  longer["protocol"]["budget"] = attacked["protocol"]["budget"];
  longer["protocol"]["budget"]["spent"]["victim_queries"] = 3.6;
  CHECK(QuestionOf(attacked) == QuestionOf(longer));
  longer["protocol"]["budget"]["most"]["victim_queries"] = 12;
  CHECK(QuestionOf(attacked) != QuestionOf(longer));
}

}  // namespace excise
