#include "experiments/run/plan.h"

#include <catch2/catch.hpp>
#include <set>

#include "experiments/formats/results_file.h"
#include "tests/testdata.h"
#include "tests/tiny_lab.h"

namespace excise {
namespace {

const auto kNothingStored = [](const Json&) { return false; };

RunOptions Workers(int workers) {
  RunOptions options;
  options.workers = workers;
  return options;
}

}  // namespace

TEST_CASE("a plan counts units by stage, each once") {
  const std::unique_ptr<Lab> lab = TinyLab();
  const Grid grid(*lab);
  const Plan plan = MakePlan(*lab, grid, kNothingStored);
  CHECK(plan.at("erase").missing.size() == 2);      // none, uce
  CHECK(plan.at("attack").missing.size() == 6);     // char_typo and pez of 3 prompts
  CHECK(plan.at("generate").missing.size() == 12);  // 2 methods, 3 attacks, 2 units
  CHECK(plan.at("judge").missing.size() == 12);
  CHECK(plan.at("score").missing.size() == 6);
  const Plan stored = MakePlan(*lab, grid, [](const Json&) { return true; });
  for (const auto& [stage, one] : stored) {
    INFO(stage);
    CHECK(one.missing.empty());
    CHECK(one.stored == static_cast<int64_t>(plan.at(stage).missing.size()));
  }
  const Forecast nothing = MakeForecast(stored, {}, Workers(2));
  CHECK(nothing.Total() == 0);
  CHECK(ForecastLine(*lab, nothing, 2) == "tiny (profile default): everything is stored; seconds");
}

TEST_CASE("a forecast is what missing units compute, by workers, shards and stages") {
  const std::unique_ptr<Lab> lab = TinyLab();
  for (const auto& attack : lab->attacks) {
    if (attack.name == "pez")
      DecodeParams({{"lanes", 1}, {"target", "image"}}, *attack.plugin, "pez");
  }
  const Grid grid(*lab);
  const Plan plan = MakePlan(*lab, grid, kNothingStored);
  PassTimes times;
  times.times[Pass::kUNet] = {1, 1};  // a second a call, however many rows
  // 12 units of 20 steps; 3 prompts for which pez draws 3 pictures in 2 batches of 20 steps.
  CHECK(MakeForecast(plan, times, Workers(1)).Total() == 12 * 20 + 3 * 40);
  CHECK(MakeForecast(plan, times, Workers(2)).Total() == 120 + 60);
  RunOptions options = Workers(1);
  options.shard = {0, 2};
  CHECK(MakeForecast(plan, times, options).Total() == 120 + 60);
  options = Workers(1);
  options.stage = "attack";
  CHECK(MakeForecast(plan, times, options).Total() == 120);
  CHECK(ForecastLine(*lab, MakeForecast(plan, times, Workers(2)), 2) ==
        "tiny (profile default): about 3 min here, with 2 workers");
  // Judging is a part of drawing: the runner says when that is over.
  times.times = {{Pass::kJudge, {1, 1}}};
  Forecast judging = MakeForecast(plan, times, Workers(1));
  CHECK(judging.Total() == 12);
  CHECK(judging.After("generate", 12).empty());
  CHECK(judging.Total() == 0);
}

TEST_CASE("filters and streams decide what drawing takes") {
  const std::unique_ptr<Lab> lab = TinyLab({"none", "espresso", "latent_blend"});
  DecodeParams({{"w", 0.5}}, *lab->methods[2].plugin, "latent_blend");
  const Grid grid(*lab);
  const Plan plan = MakePlan(*lab, grid, kNothingStored);
  const auto rows = [](const Work& work) {
    double sum = 0;
    for (const Passes& one : work) sum += one.pass == Pass::kUNet ? one.calls * one.rows : 0;
    return sum;
  };
  std::map<double, int> units;  // by U-Net rows
  for (const Work& work : plan.at("generate").missing) ++units[rows(work)];
  // Of each method 6 units of 2 pictures and 20 steps: two streams, none at all, three.
  CHECK(units == std::map<double, int>{{80, 6}, {0, 6}, {120, 6}});
}

// Nobody knows how busy this machine is: the passes take here what they took on the machine of that
// run (two workers, AVX-512), as MeasurePasses told. Attacks are left out: how early a success ends
// a search no price foresees.
TEST_CASE("table1's stages are priced in the proportions that its committed run took") {
  const Json committed = ReadResults(RepoFile("results/table1/table1.json"));
  Experiment experiment = ExperimentOf(committed, "table1.json", {});
  // The rows of that run: methods that came later are none of its seconds.
  std::set<std::string> rows;
  for (const Json& record : committed.at("records")) rows.insert(record.at("method"));
  experiment.methods.only.assign(rows.begin(), rows.end());
  const std::unique_ptr<Lab> lab =
      OpenLab(experiment, {RepoFile("models/emoji/model_index.json").parent_path().parent_path(),
                           RepoFile("datasets/concepts/poodle.json").parent_path()});
  const Plan plan = MakePlan(*lab, Grid(*lab), kNothingStored);
  PassTimes times;
  times.times = {{Pass::kUNet, {0.0073, 0.0205}},    {Pass::kUNetGradient, {0.0223, 0.0650}},
                 {Pass::kText, {0.0024, 0.0060}},    {Pass::kTextGradient, {0.0060, 0.0150}},
                 {Pass::kDecoder, {0.0019, 0.0058}}, {Pass::kVision, {0.0128, 0.0530}},
                 {Pass::kJudge, {0.0029, 0.0069}}};
  double estimated = 0, taken = 0;
  std::map<std::string, double> seconds;
  for (const char* stage : {"erase", "generate"}) {
    for (const Work& work : plan.at(stage).missing) seconds[stage] += times.Seconds(work);
    estimated += seconds[stage];
    taken += committed.at("cost").at("work_seconds").at(stage).get<double>();
  }
  for (const auto& [stage, expected] : seconds) {
    INFO(stage << ": " << expected << " of " << estimated << " s");
    const double share = committed["cost"]["work_seconds"][stage].get<double>() / taken;
    CHECK(expected / estimated > share / 2);
    CHECK(expected / estimated < share * 2);
  }
}

}  // namespace excise
