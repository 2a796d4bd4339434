#include "experiments/results/budget_families.h"

#include <catch2/catch.hpp>

#include "tests/made_up_results.h"

namespace excise {
namespace {

Record Attacked(const std::string& attack, const Json& params, int64_t most, double spent,
                const std::string& per = "prompt") {
  Record record = MadeUpRecord("uce", attack, "asr", MadeUpRate(20, 4));
  record.attack_params = params;
  record.protocol["budget"] = {
      {"per", per}, {"most", {{"gradient_steps", most}}}, {"spent", {{"gradient_steps", spent}}}};
  if (most == 0) record.protocol["budget"]["most"] = Json::object();
  return record;
}

}  // namespace

TEST_CASE("entries of one plug-in that differ in their gradient steps are a family") {
  const std::vector<Record> records = {
      MadeUpRecord("uce", "none", "asr", MadeUpRate(20, 0)),
      Attacked("uda_long", {{"plugin", "uda"}, {"rounds", 10}, {"steps", 20}}, 200, 143),
      Attacked("uda", {{"rounds", 2}, {"steps", 20}}, 40, 40),
      Attacked("pez", {{"steps", 100}}, 100, 100),
  };
  const std::vector<BudgetFamily> families = BudgetFamilies(records, "asr");
  REQUIRE(families.size() == 1);
  CHECK(families[0].plugin == "uda");
  CHECK(families[0].panel == "");
  CHECK(families[0].per == "prompt");
  REQUIRE(families[0].entries.size() == 2);
  CHECK(families[0].entries[0].attack == "uda");
  CHECK(families[0].entries[0].steps == 40);
  CHECK(families[0].entries[1].steps == 200);
  CHECK(BudgetFamilies(records, "other").empty());
}

TEST_CASE("a parameter that differs at equal steps makes a family of each of its values") {
  std::vector<Record> records;
  for (const int64_t pictures : {16, 4}) {
    for (const int64_t steps : {10, 100}) {
      records.push_back(
          Attacked(fmt::format("relearn_{}_{}", pictures, steps),
                   {{"plugin", "relearn"}, {"pictures", pictures}, {"iterations", steps}}, steps, 1,
                   "concept"));
    }
  }
  // One budget alone is no curve.
  records.push_back(Attacked("relearn_1_10",
                             {{"plugin", "relearn"}, {"pictures", 1}, {"iterations", 10}}, 10, 1));
  const std::vector<BudgetFamily> families = BudgetFamilies(records, "asr");
  REQUIRE(families.size() == 2);
  CHECK(families[0].panel == "pictures 4");
  CHECK(families[1].panel == "pictures 16");
  CHECK(families[1].per == "concept");
  CHECK(families[1].entries[1].attack == "relearn_16_100");
}

TEST_CASE("what was found on another row is no budget of this one") {
  const std::vector<Record> records = {
      Attacked("uda", {{"steps", 20}}, 20, 20),
      Attacked("uda_long", {{"plugin", "uda"}, {"steps", 200}}, 200, 143),
      Attacked("on_esd", {{"plugin", "uda"}, {"steps", 100}, {"found_on", "esd"}}, 100, 100),
  };
  const std::vector<BudgetFamily> families = BudgetFamilies(records, "asr");
  REQUIRE(families.size() == 1);
  REQUIRE(families[0].entries.size() == 2);
  CHECK(families[0].entries[0].attack == "uda");
  CHECK(families[0].entries[1].attack == "uda_long");
}

TEST_CASE("where an attack does not tell its allowance, what it took stands for it") {
  CHECK(GradientStepsOf(Attacked("a", Json::object(), 50, 20)) == 50);
  CHECK(GradientStepsOf(Attacked("a", Json::object(), 0, 20)) == 20);
  CHECK(GradientStepsOf(MadeUpRecord("uce", "none", "asr", MadeUpRate(20, 0))) == 0);
}

}  // namespace excise
