#include "experiments/page/roc_figure.h"

#include <catch2/catch.hpp>

#include "experiments/page/figures.h"
#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

// "good" with a filter that finds half without false alarms and all with 10 % of them; it stands at
// 25 % of misses and 3 % of alarms by the prompts' labels.
Results WithFilter() {
  Results results = MadeUpResults();
  const auto add = [&](const std::string& metric, const std::string& label_by, int64_t hits) {
    results.records.push_back(MadeUpRecord("good", "none", metric, MadeUpRate(120, hits)));
    Record& record = results.records.back();
    record.traits.group = "filter";
    record.metric_params = {{"label_by", label_by}};
    if (metric == "judged") record.metric_params["plugin"] = "filter_auroc";
  };
  add("filter_fnr", "prompt", 30);
  add("filter_fpr", "prompt", 4);
  for (const std::string metric : {"filter_auroc", "judged"}) {
    add(metric, metric == "judged" ? "judge" : "prompt", 114);
    std::map<std::string, double>& parts = results.records.back().score.parts;
    parts = {{"roc_00", 0.5}, {"roc_10", 1.0}, {"roc_95", 1.0}, {"positives", 60}};
  }
  return results;
}

}  // namespace

TEST_CASE("filters are drawn at every threshold, the mark at their own") {
  const Results results = WithFilter();
  const TableView view(results);
  const std::string html = RocFigures(view, Looks(view));
  INFO(html);
  // By the prompts' labels the mark stands at both rates; by others at the end of the line.
  CHECK_THAT(html, Contains("good: 25 % at 3 %"));
  CHECK_THAT(html, Contains("labels by judge") && Contains("good: 0 % at 95 %"));
}

TEST_CASE("where no row has a filter there is no such figure") {
  const Results results = MadeUpResults();
  const TableView view(results);
  CHECK(RocFigures(view, Looks(view)).empty());
}

TEST_CASE("a curve with a mark of its own has no other one") {
  const Axis axis{0, 1, AxisUnit::kPercent, ""};
  const Curve curve{"line", {0, false}, {{0, 1}, {0.5, 0.25}, {1, 0}}};
  Curve marked = curve;
  marked.mark = {{0.25, 0.5}};
  const auto marks = [&](const Curve& one) {
    const std::string body = CurveFigure("", axis, axis, {one}).body;
    size_t count = 0;
    for (size_t at = body.find("<circle"); at != std::string::npos;
         at = body.find("<circle", at + 1)) {
      ++count;
    }
    return count;
  };
  CHECK(marks(curve) == 3);
  CHECK(marks(marked) == 1);
  CHECK_THAT(CurveFigure("", axis, axis, {marked}).described, Contains("line: 50 % at 25 %"));
}

}  // namespace excise
