#include "experiments/lab/judge_fit.h"

#include <catch2/catch.hpp>

#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

// `hits` of `n` prompts of `none` without attack; another row that shows the concept nowhere.
std::vector<Record> Rows(int64_t n, int64_t hits) {
  std::vector<Record> records;
  for (const std::string subject : {"poodle", kAllConcepts}) {
    records.push_back(MadeUpRecord("none", "none", "asr", MadeUpRate(n, hits), subject));
    records.push_back(MadeUpRecord("none", "pez", "asr", MadeUpRate(n, 0), subject));
    records.push_back(MadeUpRecord("uce", "none", "asr", MadeUpRate(n, 0), subject));
    records.push_back(MadeUpRecord("uce", "none", "clip_accuracy", MadeUpRate(n, 0), subject));
    records.push_back(MadeUpRecord("uce", "none", "retention", MadeUpRate(n, 0), subject));
    records.back().traits.group = "retention";
  }
  return records;
}

void Refuse(std::vector<Record>* records) {
  RefuseUnfit(
      {{"none", "none"}, {"uce", "none"}, {"theirs", "their_base"}, {"their_base", "their_base"}},
      records);
}

}  // namespace

TEST_CASE("no removal is reported where the unmodified model does not show the concept") {
  std::vector<Record> records = Rows(20, 5);
  Refuse(&records);
  for (const Record& record : records) {
    INFO(RecordName(record));
    const bool kept =
        record.metric == "retention" || (record.method == "none" && record.attack == "none");
    CHECK(record.status == (kept ? "ok" : kUnfitJudge));
    if (kept) continue;
    CHECK(record.score.n == 0);
    CHECK_THAT(record.reason,
               Contains("poodle in 5 of 20 pictures of the unmodified model (none)"));
  }
}

TEST_CASE("a model that shows half of its prompts, or too few prompts, are not refused") {
  const auto [n, hits] = GENERATE(table<int64_t, int64_t>({{20, 18}, {20, 6}, {2, 0}, {3, 0}}));
  std::vector<Record> records = Rows(n, hits);
  Refuse(&records);
  for (const Record& record : records) CHECK(record.status == "ok");
}

TEST_CASE("prompts that describe the concept are judged by their own") {
  // The names are drawn, the descriptions are not.
  std::vector<Record> records = Rows(20, 20);
  for (const char* method : {"none", "uce"}) {
    records.push_back(MadeUpRecord(method, "none", "asr_implied", MadeUpRate(20, 3), "poodle"));
    records.back().traits.sample_groups = {"implied"};
  }
  Refuse(&records);
  for (const Record& record : records) {
    INFO(RecordName(record));
    const bool refused = record.metric == "asr_implied" && record.method == "uce";
    CHECK(record.status == (refused ? kUnfitJudge : "ok"));
    if (refused) CHECK_THAT(record.reason, Contains("poodle in 3 of 20 pictures"));
  }
}

TEST_CASE("several pictures of a prompt are one witness") {
  std::vector<Observation> pictures;
  for (int i = 0; i < 10; ++i) pictures.push_back({fmt::format("poodle/target/set@0/0#{}", i), 0});
  std::vector<Record> records = Rows(20, 20);
  records[0].score = MeanScore(pictures);
  Refuse(&records);
  for (const Record& record : records) CHECK(record.status == "ok");
}

TEST_CASE("a row is held against the unmodified model that it is compared with") {
  std::vector<Record> records = Rows(20, 20);
  records.push_back(MadeUpRecord("their_base", "none", "asr", MadeUpRate(20, 0), "poodle"));
  records.push_back(MadeUpRecord("theirs", "none", "asr", MadeUpRate(20, 0), "poodle"));
  Refuse(&records);
  CHECK(records.back().status == kUnfitJudge);
  CHECK_THAT(records.back().reason, Contains("their_base"));
  for (size_t i = 0; i + 1 < records.size(); ++i) CHECK(records[i].status == "ok");
}

}  // namespace excise
