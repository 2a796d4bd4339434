#include "experiments/page/recovery_figures.h"

#include <catch2/catch.hpp>

#include "experiments/page/page_figures.h"
#include "experiments/results/recovery.h"
#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

// "good" under three budgets of one attack and two of its control, which are told apart by their
// queries; `retrained` under the attack.
Results WithBudgets(const std::string& plugin) {
  Results results = MadeUpResults();
  results.experiment["reference_rows"] = {"none", "retrained"};
  results.records.clear();
  const auto add = [&](const std::string& method, const std::string& attack, int64_t queries,
                       int64_t shown) -> Record& {
    results.records.push_back(MadeUpRecord(method, attack, "asr", MadeUpRate(120, shown)));
    Record& record = results.records.back();
    if (method == "retrained") record.uses = {"training_data"};
    if (queries > 0) {
      record.protocol["budget"] = {
          {"per", "prompt"}, {"most", {{"victim_queries", queries}}}, {"spent", Json::object()}};
    }
    return record;
  };
  for (const std::string method : {"none", "retrained", "good"}) {
    add(method, "none", 0, method == "none" ? 120 : 0);
    for (const int64_t steps : {10, 100, 1000}) {
      Record& record =
          add(method, fmt::format("long_{}", steps), steps / 10, method == "good" ? steps / 10 : 0);
      record.attack_params = {{"plugin", plugin}, {"steps", steps}};
      record.protocol["budget"]["most"]["gradient_steps"] = steps;
    }
    for (const int64_t queries : {10, 100}) {
      Record& record = add(method, fmt::format("blind_{}", queries), queries, 6);
      record.attack_params = {{"plugin", "blind"}};
      record.protocol["control_of"] = plugin;
    }
  }
  for (const Record& record : RecoveryRecords(results.experiment, results.records)) {
    results.records.push_back(record);
  }
  results.comparisons = CompareAll(results.records);
  return results;
}

}  // namespace

TEST_CASE("success is drawn against gradient steps, beside the floor and the control") {
  const Results results = WithBudgets("search");
  const TableView view(results);
  const Looks looks(view);
  const std::map<std::string, Drawing> drawings = BudgetDrawings(view, looks, "asr");
  REQUIRE(drawings.size() == 1);
  const std::string& said = drawings.at("search").described;
  INFO(said);
  // The unmodified model is no floor, and has no line.
  CHECK_THAT(said, Contains("; good: 83 % at 1000") && Contains("retrained: 0 % at 1000"));
  CHECK_THAT(said, !Contains("none:"));
  // The control of 100 queries belongs to the search of 1000 steps.
  CHECK_THAT(said, Contains("blind: 5 % at 1000"));
  CHECK_THAT(drawings.at("search").body, Contains("curve dashed ref"));
  const std::string html = BudgetFigures(view, looks, "asr");
  CHECK_THAT(html, Contains("gradient steps a prompt") && Contains(">100</text>"));
  CHECK_THAT(RecoveryFigures(view, looks, "asr"), Contains("Recovery, long_1000"));
}

TEST_CASE("results of one budget have no such figure") {
  const Results results = MadeUpResults();
  const TableView view(results);
  CHECK(BudgetFigures(view, Looks(view), "asr").empty());
  CHECK(RecoveryFigures(view, Looks(view), "asr").empty());
}

TEST_CASE("--plot: a file of its own for each attack, whatever it is called") {
  const std::map<std::string, std::string> files = PlotFiles(WithBudgets("../../a b"));
  REQUIRE(files.size() == 1);  // nothing is kept here, so there is no front
  CHECK(files.begin()->first == "_______a_b");
  CHECK(PlotPath("x/y.svg", "_uda") == "x/y_uda.svg");
  CHECK(PlotPath("y.svg", "") == "y.svg");
}

TEST_CASE("a logarithmic axis has round numbers, and equal factors are equally far apart") {
  const Axis wide{10, 2000, AxisUnit::kPlain, "", true},
      narrow{40, 200, AxisUnit::kPlain, "", true};
  CHECK(Ticks(wide) == std::vector<double>{10, 100, 1000});
  CHECK(Ticks(narrow) == std::vector<double>{50, 100, 200});
  const Scale scale({1, 100, AxisUnit::kPlain, "", true}, 0, 200);
  CHECK(scale(10) == Approx(100));
  CHECK(scale(1) == 0);
}

}  // namespace excise
