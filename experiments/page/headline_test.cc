#include "experiments/page/headline.h"

#include <catch2/catch.hpp>

#include "experiments/page/html_parts.h"
#include "experiments/run/report.h"
#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

// MadeUpResults with what is kept: all of it by `none`, half by `good`, which removes most.
Results WithPrice() {
  Results results = MadeUpResults();
  for (const auto& [method, kept] :
       {std::pair{"none", 40}, std::pair{"good", 20}, std::pair{"near", 40}}) {
    Record record = MadeUpRecord(method, "none", "retention", MadeUpRate(120, 3 * kept));
    record.traits = {"fraction", true, 0, 1, "retention", {"near", "far"}};
    record.score.parts = {{"near", kept / 40.0}, {"near_n", 40}, {"far", 1}, {"far_n", 80}};
    results.records.push_back(record);
  }
  results.comparisons = CompareAll(results.records);
  return results;
}

std::string Said(const Results& results) {
  const TableView view(results);
  return HtmlText(Headline(view, HeadlineMetric(view)));
}

template <typename Change>
std::string SaidAfter(const Change& change) {
  Results results = WithPrice();
  for (Record& record : results.records) change(&record);
  results.comparisons = CompareAll(results.records);
  return Said(results);
}

}  // namespace

TEST_CASE("headline: removal and price of the best, against the reference rows") {
  CHECK(Said(WithPrice()) ==
        "Under pez, <b>good</b> leaves the concept in 2 % [1–7] of the pictures, against 49 % for "
        "the unmodified model; it keeps 50 % [35–65] of the pictures of near neighbours, against "
        "100 % for the unmodified model. Within 5 points of that: near.");
  CHECK_THAT(Said(MadeUpResults()), Contains("<b>good</b>") && !Contains("keeps"));
  Results results = MadeUpResults();
  for (Record& record : UnionRecords(results.records)) results.records.push_back(record);
  CHECK_THAT(Said(results), Contains("In the worst case over 1 attack, "));
}

TEST_CASE("headline: a reference row that knows the training data never saw the concept") {
  Results results = WithPrice();
  results.experiment["reference_rows"] = {"none", "poor"};
  for (Record& record : results.records) {
    if (record.method == "poor") record.uses = {"training_data"};
  }
  CHECK_THAT(Said(results),
             Contains("against 25 % for <b>poor</b>, which never saw the concept, and "
                      "49 % for the unmodified model;"));
}

TEST_CASE("headline: what is not whole is not told, of the best, of its price, of a reference") {
  const auto of = [](const char* method, const char* metric) {
    return [=](Record* record) {
      if (record->method == method && record->metric == metric) record->denominators["missing"] = 1;
    };
  };
  CHECK_THAT(SaidAfter(of("good", "asr")), Contains("<b>near</b> leaves") && !Contains("good"));
  CHECK_THAT(SaidAfter(of("good", "retention")),
             Contains("<b>good</b> leaves") && !Contains("keeps"));
  CHECK_THAT(SaidAfter(of("none", "retention")),
             Contains("near neighbours. Within") && !Contains("100 %"));
  CHECK_THAT(SaidAfter(of("none", "asr")), Contains("of the pictures; it keeps"));
  const std::string failed = SaidAfter([](Record* record) {
    if (record->method != "good") return;
    record->status = "error";
    record->score = {};
  });
  CHECK_THAT(failed, Contains("<b>near</b> leaves") && !Contains("good"));
  CHECK_THAT(SaidAfter([](Record* record) {
               if (record->method == "none") return;
               record->status = kUnfitJudge;
               record->score = {};
             }),
             Contains("so no removal is reported") && !Contains("leaves"));
}

TEST_CASE("headline: many that are best are named in part, with the range of what they keep") {
  Results results = WithPrice();
  results.experiment["reference_rows"] = Json::array({"poor"});
  for (Record& record : results.records) {
    if (record.method != "poor" && record.metric == "asr") record.score = MadeUpRate(120, 6);
  }
  results.comparisons = CompareAll(results.records);
  CHECK_THAT(Said(results), Contains("<b>good</b>, <b>near</b> and <b>none</b> leave") &&
                                Contains("they keep 50 to 100 %"));
}

}  // namespace excise
