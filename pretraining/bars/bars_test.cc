// The arithmetic of the bars, against values worked out by hand.
#include "pretraining/bars/bars.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "pretraining/bars/bars_report.h"

namespace excise {
namespace {

Json BarOf(const Json& report, const std::string& id) {
  for (const Json& bar : report["bars"]) {
    if (bar["id"] == id) return bar;
  }
  return nullptr;
}

const BarSpec& Spec(const std::string& id) {
  for (const BarSpec& spec : BarSpecs()) {
    if (spec.id == id) return spec;
  }
  throw Error(id);
}

}  // namespace

TEST_CASE("kappa of a confusion matrix worked out by hand") {
  // 50 grant proposals, two readers: p_o = 35/50 = .7; rows 25, 25; columns 30, 20;
  // p_e = .5 .6 + .5 .4 = .5; kappa = .2 / .5 = .4.
  const Measurement two = MeasureKappa({{20, 5}, {10, 15}});
  CHECK(two.value == Approx(0.4));
  CHECK(two.n == 50);
  // Wilson of 35/50, z = 1.96: (.7 + z^2/100 -+ z sqrt(.21/50 + z^2/10000)) / (1 + z^2/50)
  //   = .56250, .80896; kappa = 2 p - 1.
  CHECK(two.ci.low == Approx(2 * 0.56250 - 1).margin(1e-4));
  CHECK(two.ci.high == Approx(2 * 0.80896 - 1).margin(1e-4));

  // Three categories: p_o = 9/12, rows 4, 4, 4, columns 5, 4, 3: p_e = (20 + 16 + 12) / 144 = 1/3;
  // kappa = (3/4 - 1/3) / (2/3) = 5/8.
  CHECK(MeasureKappa({{3, 1, 0}, {1, 3, 0}, {1, 0, 3}}).value == Approx(0.625));

  CHECK(MeasureKappa({{5, 0}, {0, 7}}).value == Approx(1));
  CHECK(MeasureKappa({{5, 5}, {5, 5}}).value == Approx(0).margin(1e-12));
  CHECK(MeasureKappa({{9, 0}, {0, 0}}).value == 1);  // no room for chance or disagreement
  CHECK_THROWS_AS(MeasureKappa({{0, 0}, {0, 0}}), Error);
  CHECK_THROWS_AS(MeasureKappa({{1, 2}, {3}}), Error);
}

TEST_CASE("a bar is met by its value, and cleared by its interval") {
  BarReport report;
  report.Set("judge.scenes", MeasureRate({990, 1000}));    // exactly what is asked for
  report.Set("vae.all", MeasureRate({949, 1000}));         // .001 too low
  report.Set("clip.all", MeasureRate({1000, 1000}));       // the whole interval is above
  report.Set("retrained.targets", MeasureRate({6, 100}));  // too many
  const Json json = report.ToJson(BarGroups());

  CHECK(BarOf(json, "judge.scenes")["status"] == "met");
  CHECK(BarOf(json, "judge.scenes")["short_by"] == 0.0);
  CHECK(BarOf(json, "judge.scenes")["interval_meets"] == false);
  CHECK(BarOf(json, "vae.all")["status"] == "missed");
  CHECK(BarOf(json, "vae.all")["short_by"].get<double>() == Approx(0.001));
  CHECK(BarOf(json, "clip.all")["interval_meets"] == true);
  CHECK(BarOf(json, "retrained.targets")["status"] == "missed");
  CHECK(BarOf(json, "retrained.targets")["short_by"].get<double>() == Approx(0.01));
  CHECK(BarOf(json, "judge.oracle")["status"] == "not_there");
  CHECK(json["bars"].size() == BarSpecs().size());
  CHECK(report.ToJson({"vae"})["bars"].size() == 2);

  CHECK_THROWS_AS(report.Set("vae.all", MeasureRate({1, 1})), Error);
  CHECK_THROWS_AS(report.Set("vae.al", MeasureRate({1, 1})), Error);
}

TEST_CASE("a rate of nothing is not there, and never met") {
  BarReport report;
  report.Set("retrained.targets", MeasureRate({0, 0}));
  CHECK(BarOf(report.ToJson({"retrained"}), "retrained.targets")["status"] == "not_there");
}

TEST_CASE("within: both sides count") {
  const BarSpec& rest = Spec("retrained.rest");
  CHECK(ShortBy(rest, 0.03) == 0);
  CHECK(ShortBy(rest, -0.03) == 0);
  CHECK(ShortBy(rest, 0.05) == Approx(0.02));
  CHECK(ShortBy(rest, -0.05) == Approx(0.02));
  CHECK(IntervalMeets(rest, {-0.029, 0.029}));
  CHECK_FALSE(IntervalMeets(rest, {-0.031, 0.01}));
  CHECK_FALSE(IntervalMeets(rest, {-0.01, 0.031}));
}

TEST_CASE("a paired difference counts only where the two differ") {
  // 100 pictures: 80 right by both, 7 only by the first, 4 only by the second, 9 by none:
  // .87 - .84 = .03.
  const Measurement m = MeasurePaired({80, 7, 4, 9});
  CHECK(m.value == Approx(0.03));
  CHECK(m.n == 100);
  CHECK(m.ci.low < 0);
  CHECK(m.ci.high > 0.03);
  // The same rates without pairing are much less sure.
  const Difference unpaired = NewcombeIndependent(87, 100, 84, 100);
  CHECK(m.ci.high - m.ci.low < unpaired.ci.high - unpaired.ci.low);
  CHECK(MeasurePaired({80, 4, 7, 9}).value == Approx(-0.03));
}

TEST_CASE("the worst, and how many reach") {
  const std::map<std::string, Tally> tallies = {
      {"a", {19, 20}}, {"b", {12, 20}}, {"c", {0, 0}}, {"d", {11, 20}}, {"e", {20, 20}}};
  const Measurement worst = MeasureWorst(tallies);
  CHECK(worst.note == "d");
  CHECK(worst.value == Approx(0.55));
  CHECK(worst.n == 20);
  CHECK_THROWS_AS(MeasureWorst({{"c", {0, 0}}}), Error);

  const Measurement reaching = MeasureReaching(tallies, 0.6);
  CHECK(reaching.value == 3);    // a, b, e
  CHECK(reaching.n == 4);        // c has no sample
  CHECK(reaching.ci.low == 2);   // Wilson of 12/20 goes down to .39
  CHECK(reaching.ci.high == 4);  // of 11/20 up to .74
  CHECK(reaching.note == "below: d");
}

TEST_CASE("tables say value, interval, requirement and verdict") {
  BarReport report;
  report.Set("vae.all", MeasureRate({90, 100}));
  report.Set("aliases.concepts", MeasureReaching({{"a", {9, 10}}, {"b", {1, 10}}}, .6));
  report.Set("retrained.rest", MeasurePaired({80, 7, 4, 9}));
  const Json json = report.ToJson(BarGroups());
  const std::string text = RenderBars(json, /*markdown=*/false);
  CHECK(text.find("90.0 %") != std::string::npos);
  CHECK(text.find("[82.6, 94.5]") != std::string::npos);  // Wilson of 90/100
  CHECK(text.find("missed by 5.0 points") != std::string::npos);
  CHECK(text.find("1 of 2") != std::string::npos);
  CHECK(text.find("missed by 3") != std::string::npos);
  CHECK(text.find("+3.0 points") != std::string::npos);
  CHECK(text.find("not there") != std::string::npos);
  CHECK(RenderBars(json, true).find("| 2 | reconstructions judged right | 90.0 % |") !=
        std::string::npos);
}

}  // namespace excise
