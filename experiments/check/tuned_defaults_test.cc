// The plug-ins' search spaces, and that their defaults are what the committed log of trials chose.
#include <algorithm>
#include <catch2/catch.hpp>

#include "attacks/attack.h"
#include "core/registry.h"
#include "experiments/check/draw_trials.h"
#include "experiments/check/tune.h"
#include "experiments/check/tuning_log.h"
#include "methods/method.h"
#include "tests/testdata.h"

namespace excise {
namespace {

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

TEST_CASE("What an adaptive form shares with its plain form is tuned there alone") {
  for (const std::string& name : Registry<Attack>::Get().Names()) {
    const auto adaptive = Registry<Attack>::Get().Make(name);
    const std::string plain_form = adaptive->adaptive_form_of();
    if (plain_form.empty()) continue;
    const auto plain = Registry<Attack>::Get().Make(plain_form);
    const Json fields = EncodeParams(*plain);
    for (const auto& [field, values] : adaptive->search_space()) {
      INFO(name << "." << field);
      CHECK_FALSE(fields.contains(field));
    }
  }
}

// Whether the log has chosen the defaults of every plug-in with a search space. Names those of
// which it has no choice.
template <class Base>
void CheckDefaults(const std::vector<Tuning>& tunings) {
  for (const std::string& name : Registry<Base>::Get().Names()) {
    const auto plugin = Registry<Base>::Get().Make(name);
    const SearchSpace space = plugin->search_space();
    if (space.empty()) continue;
    INFO(Base::kKind << " " << name << ": set what results/quality/tuning.json chose");
    const auto is = [&](const Tuning& t) { return t.kind == Base::kKind && t.name == name; };
    const auto tuning = std::find_if(tunings.begin(), tunings.end(), is);
    if (tuning == tunings.end() || !tuning->complete) {
      WARN(Base::kKind << " " << name << " has no choice in results/quality/tuning.json");
      continue;
    }
    CHECK(tuning->version == plugin->version());
    CHECK(Json(tuning->space) == Json(space));
    const Json defaults = EncodeParams(*plugin);
    for (const auto& [field, values] : space) {
      INFO(field);
      CHECK(defaults.at(field) == tuning->trials[tuning->chosen].params.at(field));
    }
  }
}

TEST_CASE("Defaults are what the committed log chose, by the rule, of enough trials") {
  const TuningLog log = TuningLogFromJson(ReadJsonFile(RepoFile("results/quality/tuning.json")),
                                          "results/quality/tuning.json");
  CHECK(log.setup.at("rule") == kTuningRule);
  CHECK(log.setup.at("experiment").at("prompts").at("split") == "select");
  const auto wanted = log.setup.at("trials").get<int64_t>();
  CHECK(wanted >= 16);
  CHECK(log.setup.at("erase_seeds").size() >= 2);
  for (const Tuning& tuning : log.tunings) {
    INFO(tuning.name);
    if (!tuning.complete) continue;
    CHECK(ChooseTrial(tuning.trials) == tuning.chosen);
    CHECK(static_cast<int64_t>(tuning.trials.size()) >= std::min(wanted, SizeOf(tuning.space)));
    for (const Trial& trial : tuning.trials) {
      if (trial.failed) continue;
      const bool method = tuning.kind == Method::kKind;
      for (const char* rate : {"target", "kept"}) {
        if (method) CHECK(trial.parts.at(rate).at("n").get<int64_t>() >= 120);
      }
      if (!method) CHECK(trial.parts.at("n").get<int64_t>() >= 120);
    }
  }
  CheckDefaults<Method>(log.tunings);
  CheckDefaults<Attack>(log.tunings);
}

}  // namespace
}  // namespace excise
