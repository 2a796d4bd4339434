#include "experiments/page/dial_figures.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "experiments/page/page_figures.h"
#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

// One plug-in with four values of `w` under mode "a" and three under mode "b".
Results WithDial() {
  Results results = MadeUpResults();
  results.experiment["reference_rows"] = {"none"};
  results.records.clear();
  const auto add = [&](const std::string& method, const Json& params, int64_t shown) {
    results.records.push_back(MadeUpRecord(method, "none", "asr", MadeUpRate(40, shown)));
    results.records.back().method_params = params;
    results.records.back().score.parts = {{"anchor", 0.25}, {"garbage", 0.1}};
  };
  add("none", Json::object(), 40);
  // Not in the order of w.
  for (const int64_t tenths : {10, 2, 6, 4}) {
    add(fmt::format("a_{}", tenths), {{"plugin", "mix"}, {"mode", "a"}, {"w", tenths / 10.0}},
        40 - 4 * tenths);
  }
  for (const int64_t tenths : {2, 4, 6}) {
    add(fmt::format("b_{}", tenths), {{"plugin", "mix"}, {"mode", "b"}, {"w", tenths / 10.0}}, 0);
  }
  return results;
}

}  // namespace

TEST_CASE("rows that differ in one number alone are a curve over it") {
  Results results = WithDial();
  const TableView view(results);
  const std::vector<DialFamily> families = DialFamilies(view, "asr");
  REQUIRE(families.size() == 1);  // three points are too few
  CHECK(families[0].plugin == "mix");
  CHECK(families[0].field == "w");
  CHECK(families[0].panel.empty());
  CHECK(families[0].entries == std::vector<std::pair<double, std::string>>{
                                   {0.2, "a_2"}, {0.4, "a_4"}, {0.6, "a_6"}, {1.0, "a_10"}});
  const std::map<std::string, Drawing> drawings = DialDrawings(view, "asr");
  REQUIRE(drawings.size() == 1);
  // Of every curve its last value is said: (40 - 4 * 10) / 40 is 0 %.
  CHECK_THAT(drawings.at("mix_w").described, Contains("target rate: 0 % at 1") &&
                                                 Contains("garbage: 10 % at 1") &&
                                                 Contains("anchor: 25 % at 1"));
  CHECK(PlotFiles(results).count("_mix_w") == 1);
  CHECK_THAT(DialFigures(view, "asr"), Contains("<h3>What a setting does</h3>"));
}

TEST_CASE("families that another parameter sets apart are panels of their own") {
  Results results = WithDial();
  results.records.push_back(MadeUpRecord("b_10", "none", "asr", MadeUpRate(40, 0)));
  results.records.back().method_params = {{"plugin", "mix"}, {"mode", "b"}, {"w", 1}};
  const TableView view(results);
  const std::vector<DialFamily> families = DialFamilies(view, "asr");
  REQUIRE(families.size() == 2);
  CHECK(families[0].panel == "mode a");
  CHECK(families[1].panel == "mode b");
  // A row without all its pictures has no point.
  results.records.back().status = "error";
  CHECK(DialFamilies(TableView(results), "asr").size() == 1);
  results.records.clear();
  CHECK(DialFigures(TableView(results), "asr").empty());
}

}  // namespace excise
