#include "experiments/check/tune.h"

#include <catch2/catch.hpp>
#include <set>

#include "attacks/attack.h"
#include "core/error.h"
#include "core/registry.h"
#include "methods/method.h"
#include "tests/testdata.h"

namespace excise {
namespace {

struct Knobs : Parameterised {
  double strength = 1;
  std::string variant = "a";
  void Fields(ParamVisitor& v) override {
    v.Number("strength", &strength, "how much", {0, 10});
    v.Choice("variant", &variant, "which", {"a", "b"});
  }
};

const SearchSpace kSpace = {{"strength", {1, 2, 3, 4}}, {"variant", {"a", "b"}}};

Trial Made(double score, int64_t cost = 0, bool failed = false) {
  Trial trial;
  trial.score = score;
  trial.cost = cost;
  trial.failed = failed;
  return trial;
}

TEST_CASE("Trials: the default first, then different settings of the space, the same every time") {
  Knobs knobs;
  const std::vector<Json> trials = DrawTrials(knobs, "knobs", kSpace, 5, 1);
  REQUIRE(trials.size() == 5);
  CHECK(trials[0] == Json({{"strength", 1.0}, {"variant", "a"}}));
  std::set<std::string> seen;
  for (const Json& trial : trials) seen.insert(trial.dump());
  CHECK(seen.size() == 5);
  CHECK(DrawTrials(knobs, "knobs", kSpace, 5, 1) == trials);
  CHECK(DrawTrials(knobs, "other", kSpace, 5, 1) != trials);
  CHECK(knobs.strength == 1);
  // The whole space, and no more.
  CHECK(DrawTrials(knobs, "knobs", kSpace, 100, 1).size() == 8);
  CHECK(DrawTrials(knobs, "knobs", {}, 100, 1).size() == 1);
  CHECK_THROWS_AS(DrawTrials(knobs, "knobs", {{"strenght", {1}}}, 2, 1), UsageError);
  CHECK_THROWS_AS(DrawTrials(knobs, "knobs", {{"strength", {11}}}, 2, 1), UsageError);
}

TEST_CASE("The rule: highest score, then the cheaper, then the earlier; failures never win") {
  CHECK(ChooseTrial({Made(.5), Made(.7), Made(.6)}) == 1);
  CHECK(ChooseTrial({Made(.7, 10), Made(.7, 5), Made(.7, 5)}) == 1);
  CHECK(ChooseTrial({Made(.7), Made(.7)}) == 0);
  CHECK(ChooseTrial({Made(.9, 0, true), Made(.1)}) == 1);
  CHECK_THROWS_AS(ChooseTrial({Made(.9, 0, true)}), Error);
}

TEST_CASE("A method is judged by what it removes and what it keeps; attacks by the tuned methods") {
  Experiment base;
  base.reference_rows = {"none", "retrained"};
  base.methods.only = {"none", "uce"};
  base.attacks.only = {"char_typo"};
  int64_t runs = 0;
  const auto run = [&](const Experiment& e) {
    ++runs;
    RunScores scores;
    const Json uce = e.methods.params.at("uce");
    Score target, kept;
    target.n = kept.n = 10;
    // lambda trades one for the other.
    target.value = uce.at("lambda").get<double>() >= 1 ? 0.5 : 0.1;
    kept.value = uce.at("preserve_scale").get<double>() >= 3 ? 0.8 : 0.4;
    const auto typo = e.attacks.params.find("char_typo");
    if (typo != e.attacks.params.end()) target.value = 0.1 * typo->second.at("edits").get<int>();
    scores.by_method["uce"] = {{"asr", target}, {"retention", kept}};
    return scores;
  };
  const std::vector<Tuning> tunings = TuneAll(base, 16, 1, run);
  REQUIRE(tunings.size() == 2);
  CHECK(tunings[0].name == "uce");
  REQUIRE(tunings[0].trials.size() == 16);
  const Trial& best = tunings[0].trials[tunings[0].chosen];
  CHECK(best.score == Approx(0.8));
  CHECK(best.params.at("preserve_scale").get<double>() >= 3);
  CHECK(tunings[1].name == "char_typo");
  CHECK(tunings[1].trials.size() == 4);
  CHECK(tunings[1].trials[tunings[1].chosen].params.at("edits") == 4);
  CHECK(runs == 20);
}

TEST_CASE("Plug-ins that need a file of the user's have no trials") {
  Experiment base;
  base.methods.only = {"uce"};
  RunScores scores;
  Score target, kept;
  target.value = kept.value = 0.5;
  scores.by_method["uce"] = {{"asr", target}, {"retention", kept}};
  std::set<std::string> names;
  for (const Tuning& tuning : TuneAll(base, 1, 1, [&](const Experiment&) { return scores; })) {
    names.insert(tuning.name);
  }
  CHECK(names.count("pez") == 1);
  CHECK(names.count("prompt_file") == 0);
}

template <class Base>
void CheckSpaces() {
  for (const std::string& name : Registry<Base>::Get().Names()) {
    const auto plugin = Registry<Base>::Get().Make(name);
    const SearchSpace space = plugin->search_space();
    // Every value of the space decodes.
    for (const auto& [field, values] : space) {
      INFO(name << "." << field);
      CHECK_FALSE(values.empty());
      for (const Json& value : values) DecodeParams({{field, value}}, *plugin, name);
    }
  }
}

TEST_CASE("Search spaces are of fields and values that exist") {
  CheckSpaces<Method>();
  CheckSpaces<Attack>();
}

template <class Base>
void CheckDefault(const Json& tuned) {
  const auto plugin = Registry<Base>::Get().Make(tuned.at("name").get<std::string>());
  CHECK(tuned.at("version") == plugin->version());
  CHECK(tuned.at("search_space") == Json(plugin->search_space()));
  const Json chosen = tuned.at("trials").at(tuned.at("chosen").get<size_t>()).at("params");
  const Json defaults = EncodeParams(*plugin);
  for (const auto& [field, values] : plugin->search_space()) {
    INFO(field);
    CHECK(defaults.at(field) == chosen.at(field));
  }
}

TEST_CASE("Defaults are what the committed log chose, by the rule") {
  const Json log = ReadJsonFile(RepoFile("results/quality/tuning.json"));
  CHECK(log.at("rule") == kTuningRule);
  CHECK(log.at("experiment").at("prompts").at("split") == "select");
  std::set<std::string> tuned;
  for (const Json& plugin : log.at("plugins")) {
    const std::string name = plugin.at("name");
    INFO(name);
    tuned.insert(name);
    CHECK(plugin.at("trials").size() <= log.at("trials").get<size_t>());
    std::vector<Trial> trials;
    for (const Json& trial : plugin.at("trials")) {
      trials.push_back(Made(trial.at("score").is_null() ? 0 : trial.at("score").get<double>(),
                            trial.at("cost"), trial.at("score").is_null()));
    }
    CHECK(ChooseTrial(trials) == plugin.at("chosen").get<size_t>());
    if (plugin.at("kind") == "method") CheckDefault<Method>(plugin);
    if (plugin.at("kind") == "attack") CheckDefault<Attack>(plugin);
  }
  // What was chosen in another way says so, and how.
  const auto accounted_for = [&](const std::string& name) {
    INFO(name);
    const bool by_hand = log.at("not_tuned").contains(name);
    CHECK(by_hand != (tuned.count(name) == 1));
    if (by_hand) CHECK(log.at("not_tuned").at(name).get<std::string>().size() > 20);
  };
  for (const std::string& name : Registry<Method>::Get().Names()) {
    if (!Registry<Method>::Get().Make(name)->search_space().empty()) accounted_for(name);
  }
  for (const std::string& name : Registry<Attack>::Get().Names()) {
    if (!Registry<Attack>::Get().Make(name)->search_space().empty()) accounted_for(name);
  }
}

}  // namespace
}  // namespace excise
