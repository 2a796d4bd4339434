#include "experiments/tables/table_recovery.h"

#include <catch2/catch.hpp>

#include "core/files.h"
#include "core/json_schema.h"
#include "core/text.h"
#include "experiments/results/read_results.h"
#include "experiments/results/recovery.h"
#include "experiments/run/report.h"
#include "experiments/tables/render.h"
#include "tests/made_up_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

std::string OneLine(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

// The line of the first table that holds `title`'s row `name`.
std::string RowAfter(const std::string& text, const std::string& title, const std::string& name) {
  for (const std::string& line : Lines(text.substr(text.find(title)))) {
    if (StartsWith(line, "| " + name + " ")) return line;
  }
  FAIL("no row " << name << " after " << title << " in\n" << text);
  return "";
}

void AddBudget(Record* record, double spent) {
  record->protocol["budget"] = {
      {"per", "prompt"},
      {"most", {{"gradient_steps", 200}, {"victim_queries", 11}}},
      {"spent", {{"gradient_steps", spent}, {"victim_queries", spent / 20}}}};
}

// "edited" hides the concept in 100 of 120 prompts and shows it again in 44 of these under pez,
// "sound" in none; `retrained` in 4, so that the floor is 4 points.
Results WithFloor() {
  Results results = MadeUpResults();
  results.experiment["reference_rows"] = {"none", "retrained"};
  results.records.clear();
  const std::vector<std::pair<std::string, std::pair<int64_t, int64_t>>> rows = {
      {"none", {120, 120}}, {"retrained", {0, 4}}, {"edited", {20, 44}}, {"sound", {20, 0}}};
  for (const auto& [method, shown] : rows) {
    for (const std::string subject : {"poodle", kAllConcepts}) {
      results.records.push_back(
          MadeUpRecord(method, "none", "asr", MadeUpRate(120, shown.first), subject));
      // The last ones, but the floor's are among them.
      results.records.push_back(MadeUpRecord(
          method, "pez", "asr", MadeUpRate(120, shown.second, 120 - shown.second), subject));
      AddBudget(&results.records.back(), method == "edited" ? 100 : 200);
      if (method != "retrained") continue;
      for (int i = 1; i <= 2; ++i) results.records.rbegin()[i - 1].uses = {"training_data"};
    }
  }
  for (Record& record : UnionRecords(results.records)) results.records.push_back(record);
  const std::vector<Record> recoveries = RecoveryRecords(results.experiment, results.records);
  results.records.insert(results.records.end(), recoveries.begin(), recoveries.end());
  results.comparisons = CompareAll(results.records);
  return results;
}

}  // namespace

TEST_CASE("columns of attacks show recovery, and the plain rates stand in a second block") {
  const Results results = WithFloor();
  const std::string text = RenderMarkdown(DescribeTable(results));
  INFO(text);
  // 44 - 4 of the 100 prompts that neither shows; Tango's interval of 40 and 0 of 100.
  CHECK_THAT(RowAfter(text, "Is the concept gone?", "edited"),
             Contains("[11-24]") && Contains(" +40 [31-50] > |"));
  // 0 - 4 of 100: p = 2 / 2^4.
  CHECK_THAT(RowAfter(text, "Is the concept gone?", "sound"),
             Contains(" -4 [-10 to 0] |") && !Contains(">"));
  CHECK_THAT(RowAfter(text, "Is the concept gone?", "retrained"), Contains(" - |"));
  CHECK_THAT(RowAfter(text, "Target rate by attack", "edited"), Contains(" 37 [29-46] "));
  CHECK_THAT(RowAfter(text, "Target rate by attack", "retrained"), Contains(" 3 [1-8] "));
  CHECK_THAT(OneLine(text), Contains("Floor: retrained under the same attack."));
  CHECK_THAT(OneLine(text), Contains("Recovery above zero: pez on edited, worst case on edited."));
}

TEST_CASE("budgets stand in the caption, what may be spent and what was") {
  const Results results = WithFloor();
  // The rows spent 200, 200, 100 and 200 steps.
  CHECK_THAT(
      OneLine(RenderText(DescribeTable(results), 100)),
      Contains("Budgets, at most (spent on average): pez 200 (175) gradient steps, 11 (8.75) "
               "queries a prompt."));
  CHECK_THAT(RenderText(DescribeTable(MadeUpResults()), 100), !Contains("Budgets"));
}

TEST_CASE("every format says what recovery is") {
  const Results results = WithFloor();
  const Document document = DescribeTable(results);
  CHECK_THAT(RenderText(document, 100), Contains("+40 [31-50] >"));
  CHECK_THAT(RenderLatex(document), Contains("+40\\textsuperscript{$>$}"));
  CHECK_THAT(RenderCsv(results), Contains(",edited,pez,all,recovery,,0.4,"));
  for (const std::string& line : Lines(RenderText(document, 100))) {
    INFO(line);
    CHECK(TextWidth(line) <= 100);
  }
}

TEST_CASE("without floor and control a table is what it was") {
  const std::string text = RenderMarkdown(DescribeTable(MadeUpResults()));
  CHECK_THAT(text, !Contains("Target rate by attack") && !Contains("ecovery"));
  CHECK_THAT(OneLine(text), Contains("% of pictures that still show it, by attack."));
}

TEST_CASE("a control that stands in for the floor is named") {
  Results results = MadeUpResults();
  std::vector<Record> records;
  for (const std::string attack : {"none", "pez", "random"}) {
    const int64_t shown = attack == "none" ? 0 : attack == "pez" ? 31 : 3;
    records.push_back(MadeUpRecord("good", attack, "asr", MadeUpRate(120, shown)));
  }
  records.back().protocol["control_of"] = "pez";
  results.records = records;
  for (const Record& record : RecoveryRecords(results.experiment, records)) {
    results.records.push_back(record);
  }
  results.comparisons = CompareAll(results.records);
  const std::string text = RenderMarkdown(DescribeTable(results));
  INFO(text);
  CHECK_THAT(OneLine(text), Contains("Floor of pez: random, its control, on the same row."));
  // The control has no floor of its own: no column.
  CHECK_THAT(RowAfter(text, "Is the concept gone?", "good"),
             Contains("+23 [") && Contains("] > |") && !Contains("n/a"));
}

TEST_CASE("of many budgets of one attack the largest has columns") {
  Results results = MadeUpResults();
  results.records.clear();
  for (const int64_t steps : {10, 20, 40, 80}) {
    for (const std::string method : {"good", "poor"}) {
      if (steps == 10) {
        results.records.push_back(MadeUpRecord(method, "none", "asr", MadeUpRate(120, 0)));
      }
      Record record = MadeUpRecord(method, fmt::format("uda_{}", steps), "asr", MadeUpRate(120, 6));
      record.attack_params = {{"plugin", "uda"}, {"steps", steps}};
      record.protocol["budget"] = {
          {"per", "prompt"}, {"most", {{"gradient_steps", steps}}}, {"spent", Json::object()}};
      results.records.push_back(record);
    }
  }
  const TableView view(results);
  CHECK(ShownAttacks(view, "asr") == std::vector<std::string>{"none", "uda_80"});
  results.records.resize(6);  // two budgets
  const TableView few(results);
  CHECK(ShownAttacks(few, "asr").size() == 3);
}

TEST_CASE("results with recovery and budgets are read back as they were") {
  const Json json = ResultsToJson(WithFloor());
  CHECK(ResultsToJson(ResultsFromJson(json)) == json);
  CHECK(SchemaProblems(json, ReadJsonFile(RepoFile("results/schema.json"))) ==
        std::vector<std::string>{});
  Json broken = json;
  for (Json& record : broken["records"]) record["protocol"].erase("floor");
  CHECK_THROWS_WITH(ResultsFromJson(broken), Contains("/floor is missing"));
}

}  // namespace excise
