#include "experiments/check/tune.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <set>

#include "attacks/attack.h"
#include "core/error.h"
#include "core/files.h"
#include "core/progress.h"
#include "core/registry.h"
#include "experiments/check/trial_scores.h"
#include "experiments/check/tuning_log.h"
#include "experiments/tune_plot.h"
#include "methods/method.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

Trial Made(double score, int64_t gradient_steps = 0, bool failed = false) {
  Trial trial;
  trial.score = score;
  trial.gradient_steps = gradient_steps;
  trial.failed = failed;
  return trial;
}

// A rate over the samples of a concept, of which those named show what is counted.
Score RateOf(const std::string& subject, const std::set<int>& hits, int n) {
  Score score;
  score.n = n;
  for (int i = 0; i < n; ++i) {
    score.sample_ids.push_back(subject + "/target/" + std::to_string(i) + "#0");
    score.per_sample.push_back(hits.count(i) != 0 ? 1 : 0);
    score.value += score.per_sample.back() / n;
  }
  return score;
}

TEST_CASE("The rule: highest score, then fewer gradient steps, then the earlier; no failures") {
  CHECK(ChooseTrial({Made(.5), Made(.7), Made(.6)}) == 1);
  CHECK(ChooseTrial({Made(.7, 10), Made(.7, 5), Made(.7, 5)}) == 1);
  CHECK(ChooseTrial({Made(.7), Made(.7)}) == 0);
  CHECK(ChooseTrial({Made(.9, 0, true), Made(.1)}) == 1);
  CHECK_THROWS_AS(ChooseTrial({Made(.9, 0, true)}), Error);
}

TEST_CASE("Scores by hand: the harmonic mean, and recovery over what neither shows") {
  CHECK(HarmonicMean(.9, .45) == Approx(.6));
  CHECK(HarmonicMean(.5, 1) == Approx(2. / 3));
  CHECK(HarmonicMean(0, 1) == 0);
  CHECK(HarmonicMean(0, 0) == 0);
  // Samples 0 to 9: the method shows 0 without attack, the floor 1; of the other eight the method
  // shows 2, 3, 4 under attack and the floor 4.
  const RecoveryCount count =
      CountRecovery({RateOf("c", {0}, 10)}, {RateOf("c", {0, 1, 2, 3, 4}, 10)},
                    {RateOf("c", {1}, 10)}, {RateOf("c", {4}, 10)});
  CHECK(count.n == 8);
  CHECK(count.shown == 3);
  CHECK(count.shown_by_floor == 1);
  CHECK(count.Value() == Approx(2. / 8));
  // A sample that was not attacked counts nowhere, and concepts do not mix.
  CHECK(CountRecovery({RateOf("c", {}, 10)}, {RateOf("c", {0}, 5)}, {RateOf("c", {}, 10)},
                      {RateOf("c", {}, 10)})
            .n == 5);
  CHECK(CountRecovery({RateOf("c", {}, 4)}, {RateOf("d", {}, 4)}, {RateOf("c", {}, 4)},
                      {RateOf("c", {}, 4)})
            .n == 0);
}

// A made-up world: what uce leaves and keeps depends on its settings and the seed, what an attack
// brings back on the attack's.
struct World {
  int64_t runs = 0, most = 1000;
  double garbage = 0;  // share of uce's pictures of the target
  std::vector<Experiment> asked;

  RunScores operator()(const std::string&, const Experiment& e) {
    if (++runs > most) throw Interrupted{};
    asked.push_back(e);
    RunScores scores;
    for (const std::string& method : e.methods.only) {
      for (const std::string& metric : e.metrics.only) {
        std::vector<Score>& cell = scores.cells[{method, "none", metric}];
        cell = Without(e, method, metric);
        if (metric == "asr") cell.front().parts["garbage"] = method == "uce" ? garbage : 0;
      }
      for (const std::string& attack : e.attacks.only) {
        // The floor has nothing that an adaptive attack could adapt to.
        const bool nothing = method == "retrained" && attack == "pez_adaptive";
        if (attack == "none" || nothing) continue;
        scores.cells[{method, attack, "asr"}] = {Under(e, method, attack)};
      }
    }
    return scores;
  }

  static std::vector<Score> Without(const Experiment& e, const std::string& method,
                                    const std::string& metric) {
    if (metric == "cost") {
      Score cost;
      cost.n = 1;
      cost.parts["gradient_steps"] = 30;
      return {cost};
    }
    if (method != "uce") return {RateOf("c", {}, 10)};
    const double lambda = e.methods.params.at("uce").at("lambda");
    if (metric == "asr") {
      // One more of ten with the second seed.
      std::set<int> hits = {0};
      if (e.seeds.erase == 2) hits.insert(1);
      if (lambda >= 1) hits.insert({2, 3, 4});
      return {RateOf("c", hits, 10)};
    }
    Score kept = RateOf("c", {0, 1, 2, 3, 4, 5, 6, 7}, 10);
    kept.parts = {{"near", 0.5}, {"near_n", 4}};
    return {kept};
  }

  static Score Under(const Experiment& e, const std::string& method, const std::string& attack) {
    const Json params = e.attacks.params.at(attack);
    if (method == "retrained") return RateOf("c", {9}, 10);
    std::set<int> hits = {9};
    if (params.value("prompt_len", 0) == 12) hits.insert({7, 8});
    if (params.value("lambda", 0.0) == 3) hits.insert(6);
    return RateOf("c", hits, 10);
  }
};

TuneRequest Request() {
  TuneRequest request;
  request.experiment.reference_rows = {"none", "retrained"};
  request.experiment.prompts.split = "select";
  request.experiment.methods.only = {"none", "uce", "espresso"};
  request.experiment.attacks.only = {"pez", "pez_adaptive", "random"};
  request.trials = 48;
  request.provenance = {{"commit", "abc"}};
  return request;
}

const SaveTunings kForget = [](const std::vector<Tuning>&) {};

TEST_CASE("A method is judged by what it removes and keeps, over all seeds of removal") {
  World world;
  TuneRequest request = Request();
  request.experiment.attacks.only = {"none"};
  request.more_prompts["uce"] = 3;
  const RunTrial run = std::ref(world);
  const std::vector<Tuning> tunings = TuneAll(request, {}, run, kForget);
  REQUIRE(tunings.size() == 2);
  CHECK(tunings[0].name == "espresso");
  const Tuning& uce = tunings[1];
  CHECK(uce.name == "uce");
  CHECK(uce.complete);
  const Trial& best = uce.trials.at(uce.chosen);
  // (1 + 2) of 20 show it, 16 of 20 stay: 2 * 0.85 * 0.8 / 1.65.
  CHECK(best.score == Approx(2 * 0.85 * 0.8 / 1.65));
  CHECK(best.params.at("lambda").get<double>() < 1);
  CHECK(best.parts.at("target") == Json({{"hits", 3}, {"n", 20}}));
  CHECK(best.parts.at("kept") == Json({{"hits", 16}, {"n", 20}}));
  CHECK(best.parts.at("near") == Json({{"hits", 4}, {"n", 8}}));
  CHECK(best.parts.at("by_seed").size() == 2);
  CHECK(best.gradient_steps == 30);
  CHECK(uce.made_on == Json::array({{{"commit", "abc"}}}));
  CHECK(best.parts.at("removed") == Json({{"hits", 17}, {"n", 20}}));
  // Two runs a trial; one that claims a part of the concepts gets more prompts of them.
  CHECK(world.runs == static_cast<int64_t>(2 * (tunings[0].trials.size() + uce.trials.size())));
  CHECK(world.asked.front().seeds.erase == 1);
  CHECK(world.asked[1].seeds.erase == 2);
  CHECK(world.asked.front().prompts.target == 20);
  CHECK(world.asked.back().prompts.target == 60);
}

TEST_CASE("Garbage is no removal") {
  World world;
  world.garbage = 0.2;
  TuneRequest request = Request();
  request.experiment.methods.only = {"uce"};
  request.experiment.attacks.only = {"none"};
  const Tuning uce = TuneAll(request, {}, std::ref(world), kForget).at(0);
  const Trial& best = uce.trials.at(uce.chosen);
  // Of 20 pictures 3 show the concept and 4 nothing that the judge knows.
  CHECK(best.parts.at("garbage") == Json({{"hits", 4}, {"n", 20}}));
  CHECK(best.parts.at("removed") == Json({{"hits", 13}, {"n", 20}}));
  CHECK(best.score == Approx(2 * 0.65 * 0.8 / 1.45));
}

TEST_CASE("An attack is judged by its recovery over the tuned methods that are no filters") {
  World world;
  const RunTrial run = std::ref(world);
  const std::vector<Tuning> tunings = TuneAll(Request(), {}, run, kForget);
  // random has nothing to tune.
  REQUIRE(tunings.size() == 4);
  const Tuning &pez = tunings[2], &adaptive = tunings[3];
  CHECK(pez.name == "pez");
  CHECK(adaptive.name == "pez_adaptive");
  CHECK(pez.against.size() == 1);
  CHECK(pez.against.at("uce") == tunings[1].trials[tunings[1].chosen].params);
  const Trial& best = pez.trials.at(pez.chosen);
  CHECK(best.params.at("prompt_len") == 12);
  // Without attack uce shows 0, with the second seed 1, too; retrained nothing. Of 9 and 8 samples
  // it shows 7, 8 and 9, retrained 9.
  CHECK(best.parts.at("shown") == 6);
  CHECK(best.parts.at("shown_by_floor") == 2);
  CHECK(best.parts.at("n") == 17);
  CHECK(best.score == Approx(4. / 17));
  CHECK(best.parts.at("by_method").at("uce").at("n") == 17);
  // The adaptive form takes what it shares with pez, and pez on the floor as its floor.
  const Trial& adapted = adaptive.trials.at(adaptive.chosen);
  CHECK(adapted.params.at("lambda") == 3);
  CHECK(adapted.params.at("prompt_len") == 12);
  CHECK(adapted.parts.at("shown") == 8);
  CHECK(adapted.parts.at("shown_by_floor") == 2);
  const Experiment& last = world.asked.back();
  CHECK(last.prompts.target == 20);  // it meets few methods
  CHECK(world.asked[world.asked.size() - 2 * adaptive.trials.size() - 1].prompts.target == 4);
  CHECK(last.prompts.near == 0);
  // The floor depends on no seed of removal: once.
  CHECK(last.methods.only == std::vector<std::string>{"uce"});
  CHECK(world.asked[world.asked.size() - 2].methods.only ==
        std::vector<std::string>{"uce", "retrained"});
  CHECK(last.attacks.params.at("pez").at("prompt_len") == 12);

  TuneRequest request = Request();
  request.experiment.concepts = {"poodle", "sepia"};
  request.attack_concepts = {"sepia"};
  TuneAll(request, {}, run, kForget);
  CHECK(world.asked.back().concepts == request.attack_concepts);
  request = Request();
  request.experiment.methods.only = {"none"};
  CHECK_THROWS_WITH(TuneAll(request, {}, run, kForget), Contains("no method is tuned yet"));
  request = Request();
  request.experiment.reference_rows = {"none"};
  CHECK_THROWS_WITH(TuneAll(request, {}, run, kForget), Contains("never saw the concepts"));
}

TEST_CASE("A tuning goes on where it ended: nothing is run twice, nothing is lost") {
  World whole;
  const TuneRequest request = Request();
  const std::vector<Tuning> expected = TuneAll(request, {}, std::ref(whole), kForget);
  World killed;
  killed.most = whole.runs / 2;
  std::vector<Tuning> saved;
  const SaveTunings save = [&](const std::vector<Tuning>& tunings) { saved = tunings; };
  CHECK_THROWS_AS(TuneAll(request, {}, std::ref(killed), save), Interrupted);
  REQUIRE_FALSE(saved.empty());
  // Through the file.
  const TuningLog log{SetupOf(request), saved};
  const TuningLog read = TuningLogFromJson(Json::parse(TuningLogToJson(log).dump()), "log");
  World rest;
  const std::vector<Tuning> found = TuneAll(request, read.tunings, std::ref(rest), save);
  CHECK(rest.runs <= whole.runs - killed.most + 1);  // the trial that was cut off has two runs
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].name == expected[i].name);
    CHECK(found[i].chosen == expected[i].chosen);
    REQUIRE(found[i].trials.size() == expected[i].trials.size());
    for (size_t k = 0; k < found[i].trials.size(); ++k) {
      CHECK(found[i].trials[k].params == expected[i].trials[k].params);
      CHECK(found[i].trials[k].parts == expected[i].trials[k].parts);
    }
  }
  World none;
  CHECK(TuneAll(request, found, std::ref(none), save).size() == found.size());
  CHECK(none.runs == 0);
  // One method alone: the others' trials stay in the file.
  TuneRequest alone = request;
  alone.experiment.methods.only = {"espresso"};
  alone.experiment.attacks.only = {"none"};
  std::vector<Tuning> older = found;
  older[0].version = -1;
  CHECK(TuneAll(alone, older, std::ref(none), save).size() == found.size());
  CHECK(none.runs == static_cast<int64_t>(2 * found[0].trials.size()));
}

TEST_CASE("A trial that fails is kept, never chosen, and run again") {
  TuneRequest request = Request();
  request.experiment.methods.only = {"uce"};
  request.experiment.attacks.only = {"none"};
  bool broken = true;
  World world;
  const RunTrial run = [&](const std::string& plugin, const Experiment& e) {
    RunScores scores = world(plugin, e);
    if (broken && e.methods.params.at("uce").at("lambda") == 0.01) scores.problem = "broken";
    return scores;
  };
  const std::vector<Tuning> tunings = TuneAll(request, {}, run, kForget);
  CHECK(tunings[0].complete);
  CHECK_FALSE(tunings[0].trials[tunings[0].chosen].failed);
  const auto failed = [](const Trial& t) { return t.failed; };
  const auto& trials = tunings[0].trials;
  const auto count = std::count_if(trials.begin(), trials.end(), failed);
  REQUIRE(count > 0);
  CHECK(std::find_if(trials.begin(), trials.end(), failed)->parts.at("problem") == "broken");
  broken = false;
  world.runs = 0;
  TuneAll(request, tunings, run, kForget);
  CHECK(world.runs == 2 * count);
}

TEST_CASE("The log is never mixed with trials of another setup") {
  const std::filesystem::path file = TestFolder("tuning") / "log.json";
  const TuneRequest request = Request();
  CHECK(TuningsToGoOnWith(file, SetupOf(request)).empty());
  World world;
  TuneRequest small = request;
  small.experiment.methods.only = {"uce"};
  small.experiment.attacks.only = {"none"};
  const TuningLog log{SetupOf(small), TuneAll(small, {}, std::ref(world), kForget)};
  WriteFileAtomically(file, TuningLogToJson(log).dump());
  // Which plug-ins are chosen is no part of it.
  CHECK(TuningsToGoOnWith(file, SetupOf(request)).size() == 1);
  TuneRequest other = request;
  other.trials = 60;
  CHECK(TuningsToGoOnWith(file, SetupOf(other)).size() == 1);
  other.trials = 8;
  CHECK_THROWS_WITH(TuningsToGoOnWith(file, SetupOf(other)), Contains("'trials' differs"));
  other = request;
  other.experiment.sampler.steps = 9;
  CHECK_THROWS_WITH(TuningsToGoOnWith(file, SetupOf(other)), Contains("'experiment' differs"));
  other = request;
  other.erase_seeds = {1};
  CHECK_THROWS_WITH(TuningsToGoOnWith(file, SetupOf(other)), Contains("'erase_seeds' differs"));
  // How attacks are tried matters once some were.
  other = request;
  other.attack_prompts = 2;
  other.attack_concepts = {"poodle"};
  CHECK(TuningsToGoOnWith(file, SetupOf(other)).size() == 1);
  const TuningLog attacked{SetupOf(request), TuneAll(request, {}, std::ref(world), kForget)};
  WriteFileAtomically(file, TuningLogToJson(attacked).dump());
  CHECK_THROWS_WITH(TuningsToGoOnWith(file, SetupOf(other)), Contains("'attack_"));
  WriteFileAtomically(file, R"({"schema": 1, "plugins": []})");
  CHECK_THROWS_WITH(TuningsToGoOnWith(file, SetupOf(request)), Contains("Move it away"));
}

TEST_CASE("Readers see every trial, and the choice among them") {
  World world;
  const TuningLog log{SetupOf(Request()), TuneAll(Request(), {}, std::ref(world), kForget)};
  const std::string text = RenderTunings(log, "tuning.svg");
  CHECK_THAT(text, Contains(kTuningRule));
  CHECK_THAT(text, Contains("](tuning.svg)"));
  CHECK_THAT(text, Contains("## method uce"));
  CHECK_THAT(text, Contains("48 of a search space of 70."));
  CHECK_THAT(text, Contains("**82.4**"));  // 2 * 0.85 * 0.8 / 1.65
  CHECK_THAT(text, Contains("| 6 | 2 | 17 | **23.5** |"));
  const std::string svg = TrialsSvg(log.tunings);
  CHECK_THAT(svg, Contains("uce, the choice: removal 85 %, retention 80 %"));
  // A dot a trial, and the choice.
  size_t dots = 0;
  for (size_t at = svg.find("<title>uce"); at != std::string::npos;
       at = svg.find("<title>uce", at + 1)) {
    ++dots;
  }
  CHECK(dots == log.tunings[1].trials.size());
  CHECK_THAT(svg, Contains("class=\"front\""));
  CHECK(TrialsSvg({}).empty());
}

TEST_CASE("Plug-ins that need a file of the user's have no trials") {
  Experiment base;
  base.reference_rows = {"none", "retrained"};
  const std::vector<std::string> names = TunedMethods(base);
  CHECK(std::count(names.begin(), names.end(), "uce") == 1);
  CHECK(std::count(names.begin(), names.end(), "snapshot") == 0);
  CHECK(std::count(names.begin(), names.end(), "retrained") == 0);
  base.methods.only = {"esdd"};
  CHECK_THROWS_WITH(TunedMethods(base), Contains("esd"));
}

}  // namespace
}  // namespace excise
