#include "experiments/listing.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "core/error.h"
#include "core/text.h"
#include "experiments/formats/experiment.h"
#include "experiments/lab/selection.h"
#include "judges/judge.h"
#include "methods/method.h"
#include "metrics/metric.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

// The word that a shell would pass on.
std::string Unquoted(const std::string& word) {
  std::string out;
  bool quoted = false;
  for (size_t i = 0; i < word.size(); ++i) {
    if (word[i] == '\'') {
      quoted = !quoted;
    } else if (word[i] == '\\' && !quoted) {
      out += word[++i];
    } else {
      out += word[i];
    }
  }
  return out;
}

// Applies the setting as a run would, plug-in included.
void Apply(const std::string& setting, const std::string& dataset, const std::string& judge) {
  ExperimentChoices choices;
  if (!dataset.empty()) choices.settings.push_back("prompts.dataset=" + dataset);
  if (!judge.empty()) choices.settings.push_back("judge.plugin=" + judge);
  choices.settings.push_back(setting);
  const Json file = {{"name", "x"}, {"concepts", {"poodle"}}, {"quadruplets", {{"set", "emoji"}}}};
  const Experiment e = MakeExperiment(file, "x.json", choices);
  const auto decode = [&](const Selection& selection, auto make) {
    for (const auto& [name, params] : selection.params) {
      DecodeParams(params, *make(name), setting);
    }
  };
  decode(e.methods, [](const std::string& name) { return Registry<Method>::Get().Make(name); });
  decode(e.attacks, [](const std::string& name) { return Registry<Attack>::Get().Make(name); });
  decode(e.metrics, [](const std::string& name) { return Registry<Metric>::Get().Make(name); });
  if (!judge.empty()) {
    DecodeParams(e.judge.params, *Registry<Judge>::Get().Make(e.judge.plugin), setting);
  }
  DecodeParams(e.dataset_params, *Registry<Dataset>::Get().Make(e.prompts.dataset), setting);
}

}  // namespace

TEST_CASE("--list is an overview of a line a plug-in, as wide as the terminal") {
  const std::string list = List("all", 80);
  INFO(list);
  for (const std::string& line : Lines(list)) CHECK(line.size() <= 80);
  const size_t plugins =
      Registry<Method>::Get().Names().size() + Registry<Attack>::Get().Names().size() +
      Registry<Metric>::Get().Names().size() + Registry<Judge>::Get().Names().size() +
      Registry<Dataset>::Get().Names().size();
  size_t indented = 0;
  for (const std::string& line : Lines(list)) indented += StartsWith(line, "  ");
  CHECK(indented == plugins);
  CHECK(Lines(list).size() < plugins + 15);  // a heading and a blank line a kind, and how to go on
  CHECK_THAT(list, Contains("methods\n") && Contains("\n  uce ") && Contains("\n  prompts_csv "));
  CHECK_THAT(list, !Contains("--set"));
}

TEST_CASE("--list=NAME describes one plug-in, --list=KIND of all of a kind") {
  const std::string esd = List("esd", 100);
  CHECK(esd.find("method esd (version ") == 0);
  CHECK_THAT(esd, Contains("what: ") && Contains("--set methods.esd.iterations=") &&
                      !Contains("methods.uce"));
  CHECK_THAT(List("none", 100), Contains("method none") && Contains("attack none"));
  CHECK_THAT(List("attacks", 100), Contains("attack pez") && !Contains("method uce"));
  CHECK_THAT(List("judges", 100), Contains("judge emoji (version ") &&
                                      Contains("--set judge.params.threshold=0.7") &&
                                      !Contains("attack pez"));
  CHECK_THAT(List("settings", 100), Contains("--set sampler.guidance=3.0"));
  CHECK_THROWS_WITH(List("edd", 100), Contains("Did you mean 'esd'?"));
}

TEST_CASE("every setting that --list prints can be set") {
  const std::string path = TestFolder("setting").string();
  size_t settings = 0;
  for (const char* what : {"methods", "attacks", "metrics", "judges", "datasets", "settings"}) {
    std::string dataset, judge;
    for (const std::string& line : Lines(List(what, 100))) {
      if (StartsWith(line, "dataset ")) dataset = line.substr(8, line.find(' ', 8) - 8);
      if (StartsWith(line, "judge ")) judge = line.substr(6, line.find(' ', 6) - 6);
      if (!StartsWith(line, "    --set ")) continue;
      std::string setting = Unquoted(line.substr(10));
      const std::string placeholder = "=PATH";
      const size_t at = setting.size() - std::min(setting.size(), placeholder.size());
      if (setting.substr(at) == placeholder) setting.replace(at, placeholder.size(), "=" + path);
      INFO(setting);
      if (StartsWith(setting, "prompts.dataset=")) dataset.clear();
      CHECK_NOTHROW(Apply(setting, dataset, judge));
      ++settings;
    }
  }
  CHECK(settings > 100);
}

}  // namespace excise
