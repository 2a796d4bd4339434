#include "experiments/check/draw_trials.h"

#include <catch2/catch.hpp>
#include <set>

#include "core/error.h"

namespace excise {
namespace {

struct Knobs : Parameterised {
  double strength = 1, untouched = 7;
  std::string variant = "a";
  void Fields(ParamVisitor& v) override {
    v.Number("strength", &strength, "how much", {0, 10});
    v.Number("untouched", &untouched, "what the space does not name");
    v.Choice("variant", &variant, "which", {"a", "b"});
  }
};

const SearchSpace kSpace = {{"strength", {1, 2, 3, 4}}, {"variant", {"a", "b"}}};
const std::map<std::string, Json> kPresets = {
    {"paper", {{"strength", 9}, {"variant", "b"}, {"untouched", 3}}}};

TEST_CASE("Trials: the paper's setting, then others of the space, the same every time") {
  Knobs knobs;
  const auto draw = [&](const SearchSpace& space, size_t count, const std::string& name = "knobs") {
    return DrawTrials(knobs, kPresets, name, space, count, 1);
  };
  const std::vector<Json> trials = draw(kSpace, 5);
  REQUIRE(trials.size() == 5);
  // Of the preset what the space names, and nothing else.
  CHECK(trials[0] == Json({{"strength", 9.0}, {"untouched", 7.0}, {"variant", "b"}}));
  CHECK(std::set<Json>(trials.begin(), trials.end()).size() == 5);
  CHECK(draw(kSpace, 5) == trials);
  CHECK(draw(kSpace, 5, "other") != trials);
  CHECK(knobs.strength == 1);
  // The whole space beside it, and no more.
  CHECK(draw(kSpace, 8).size() == 9);
  CHECK(draw(kSpace, 100).size() == 9);
  CHECK(DrawTrials(knobs, {}, "knobs", kSpace, 8, 1).size() == 8);
  CHECK(draw({}, 100).size() == 1);
  CHECK_THROWS_AS(draw({{"strenght", {1}}}, 2), UsageError);
  CHECK_THROWS_AS(draw({{"strength", {11}}}, 2), UsageError);
  // What was chosen and became the default changes no trial, so that it is found again.
  knobs.strength = 3;
  knobs.variant = "b";
  CHECK(draw(kSpace, 5) == trials);
}

}  // namespace
}  // namespace excise
