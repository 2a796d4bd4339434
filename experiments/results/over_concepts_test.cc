#include "experiments/results/over_concepts.h"

#include <catch2/catch.hpp>

#include "tests/made_up_results.h"

namespace excise {
namespace {

// `hits[c]` of 20 prompts of concept c, each with these edits ("" for one).
Score OverSix(const std::vector<int>& hits, const std::vector<std::string>& edits = {""},
              const std::string& group = "target") {
  std::vector<Observation> observations;
  for (size_t c = 0; c < hits.size(); ++c) {
    for (int i = 0; i < 20; ++i) {
      for (const std::string& edit : edits) {
        observations.push_back({fmt::format("concept{}/{}/set@0/{:03}#0{}", c, group, i, edit),
                                i < hits[c] ? 1.0 : 0.0});
      }
    }
  }
  return MeanScore(observations);
}

Score Filled(Score score, const std::string& unit = "fraction",
             const std::string& subject = kAllConcepts) {
  Record record = MadeUpRecord("uce", "none", "asr", score, subject);
  record.traits.unit = unit;
  std::vector<Record> records = {record};
  AddIntervalsOverConcepts(&records);
  return records[0].score;
}

}  // namespace

TEST_CASE("a rate that differs by concept: the interval over concepts is wide") {
  // 0, 85, 0, 0, 5 and 65 %: 31 of 120. Ends by a script in Python (see core's test): 0 and 0.558.
  const Score score = Filled(OverSix({0, 17, 0, 0, 1, 13}));
  REQUIRE(score.over_concepts);
  CHECK(score.over_concepts->low == Approx(0).margin(0.009));
  CHECK(score.over_concepts->high == Approx(0.558).margin(0.025));
  CHECK(score.low > 0.18);  // over prompts: [19-34]
  CHECK(score.high < 0.35);
  // The same twice: the stream is fixed.
  CHECK(Filled(OverSix({0, 17, 0, 0, 1, 13})).over_concepts->high == score.over_concepts->high);
}

TEST_CASE("one concept has an interval over edits where there are several, else none") {
  CHECK_FALSE(Filled(OverSix({5})).over_concepts);
  const Score edits = Filled(OverSix({5}, {"@1", "@2"}));
  REQUIRE(edits.over_concepts);
  CHECK(edits.over_concepts->low <= edits.value);
  CHECK(edits.over_concepts->high >= edits.value);
}

TEST_CASE("scores, single concepts' records and what is no mean of its samples have none") {
  CHECK_FALSE(Filled(OverSix({1, 2}), "cosine").over_concepts);
  CHECK_FALSE(Filled(OverSix({1, 2}), "fraction", "poodle").over_concepts);
  Score other = OverSix({1, 2});
  other.value += 0.1;
  CHECK_FALSE(Filled(other).over_concepts);
  Score nameless = OverSix({1, 2});
  for (std::string& id : nameless.sample_ids) id = "000000001";
  CHECK_FALSE(Filled(nameless).over_concepts);
}

TEST_CASE("groups of prompts have intervals of their own, and all are written and read") {
  const Score near = OverSix({4, 20}, {""}, "near"), far = OverSix({20, 20}, {""}, "far");
  Score both = near;
  both.per_sample.insert(both.per_sample.end(), far.per_sample.begin(), far.per_sample.end());
  both.sample_ids.insert(both.sample_ids.end(), far.sample_ids.begin(), far.sample_ids.end());
  both.n = 80;
  both.value = 0.8;
  both.parts = {{"near", 0.6}, {"far", 1.0}, {"near_n", 40}, {"far_n", 40}};
  Record record = MadeUpRecord("uce", "none", "retention", both);
  record.traits = {"fraction", true, 0, 1, "retention", {"near", "far", "lexical"}};
  std::vector<Record> records = {record};
  AddIntervalsOverConcepts(&records);
  const Score& score = records[0].score;
  REQUIRE(score.over_concepts);
  REQUIRE(score.parts_over_concepts.size() == 2);
  CHECK(score.parts_over_concepts.at("near").low < 0.3);  // a concept of 20 % alone
  CHECK(score.parts_over_concepts.at("far").low == 1);
  const Json json = RecordToJson(records[0]);
  CHECK(json.at("ci95_concepts").size() == 2);
  CHECK(json.at("parts_ci95_concepts").at("far") == Json{1.0, 1.0});
  const Score read = ScoreFromJson(json);
  CHECK(read.over_concepts->high == score.over_concepts->high);
  CHECK(read.parts_over_concepts.at("near").low == score.parts_over_concepts.at("near").low);
  CHECK_FALSE(ScoreToJson(near).contains("ci95_concepts"));
}

}  // namespace excise
