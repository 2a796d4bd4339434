#include "experiments/check/tune.h"

#include <fmt/format.h>

#include <algorithm>

#include "attacks/attack.h"
#include "core/error.h"
#include "core/progress.h"
#include "core/random.h"
#include "core/registry.h"
#include "core/stats.h"
#include "core/text.h"
#include "experiments/lab/lab.h"
#include "methods/method.h"

namespace excise {
namespace {

constexpr const char* kTarget = "asr";
constexpr const char* kKept = "retention";

// The n-th setting of the space's product, fields in the order of their names.
Json SettingAt(const SearchSpace& space, int64_t index) {
  Json setting = Json::object();
  for (const auto& [field, values] : space) {
    const auto size = static_cast<int64_t>(values.size());
    setting[field] = values[static_cast<size_t>(index % size)];
    index /= size;
  }
  return setting;
}

int64_t SizeOf(const SearchSpace& space) {
  int64_t size = 1;
  for (const auto& [field, values] : space) size *= static_cast<int64_t>(values.size());
  return size;
}

Json Figure(const Score& score) {
  return {{"value", score.value}, {"n", score.n}, {"ci95", {score.low, score.high}}};
}

// What is selected. Plug-ins that need a file of the user's have no trials unless they are named.
template <class Base>
std::vector<std::string> Tunable(const Selection& selection,
                                 const std::vector<std::string>& left_out) {
  std::vector<std::string> names;
  for (const std::string& name : Registry<Base>::Get().Names()) {
    const auto runs = [&] { return MissingSetting(*Registry<Base>::Get().Make(name)).empty(); };
    const bool selected = selection.only.empty() ? !IsOneOf(name, selection.exclude) && runs()
                                                 : IsOneOf(name, selection.only);
    if (selected && name != kUnmodified && !IsOneOf(name, left_out)) names.push_back(name);
  }
  return names;
}

// Runs all trials of one plug-in. `place` puts a setting into an experiment, `judge` reads the
// score of what came out.
template <class Place, class Judge>
void RunTrials(Tuning* tuning, const std::vector<Json>& settings, const RunTrial& run,
               const Place& place, const Judge& judge) {
  Progress progress("tune " + tuning->name, static_cast<int64_t>(settings.size()));
  for (const Json& params : settings) {
    Trial trial;
    trial.params = params;
    const RunScores scores = run(place(params));
    if (scores.problem.empty()) {
      judge(scores, &trial);
    } else {
      trial.failed = true;
      trial.parts["problem"] = scores.problem;
    }
    tuning->trials.push_back(std::move(trial));
    progress.Advance();
  }
  tuning->chosen = ChooseTrial(tuning->trials);
}

template <class Base>
Tuning Begin(const std::string& name, const Selection& selection, size_t trials, uint64_t seed,
             std::vector<Json>* settings) {
  const std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(name);
  const auto given = selection.params.find(name);
  if (given != selection.params.end()) DecodeParams(given->second, *plugin, name);
  Tuning tuning{Base::kKind, name, plugin->version(), plugin->search_space(), {}, 0};
  *settings = DrawTrials(*plugin, name, tuning.space, trials, seed);
  return tuning;
}

Tuning TuneMethod(const Experiment& base, const std::string& name, size_t trials, uint64_t seed,
                  const RunTrial& run) {
  std::vector<Json> settings;
  Tuning tuning = Begin<Method>(name, base.methods, trials, seed, &settings);
  RunTrials(
      &tuning, settings, run,
      [&](const Json& params) {
        Experiment e = base;
        e.methods.only = {name};
        e.methods.params[name] = params;
        e.attacks.only = {kUnmodified};
        e.metrics.only = {kTarget, kKept, "cost"};
        return e;
      },
      [&](const RunScores& scores, Trial* trial) {
        const auto& of = scores.by_method.at(name);
        const Score& target = of.at(kTarget);
        const Score& kept = of.at(kKept);
        trial->parts = {{"target", Figure(target)}, {"kept", Figure(kept)}};
        trial->score = std::min(1 - target.value, kept.value);
        const auto cost = of.find("cost");
        if (cost != of.end()) trial->cost = static_cast<int64_t>(cost->second.value);
      });
  return tuning;
}

Tuning TuneAttack(const Experiment& base, const std::string& name,
                  const std::vector<Tuning>& methods, size_t trials, uint64_t seed,
                  const RunTrial& run) {
  std::vector<Json> settings;
  Tuning tuning = Begin<Attack>(name, base.attacks, trials, seed, &settings);
  RunTrials(
      &tuning, settings, run,
      [&](const Json& params) {
        Experiment e = base;
        e.methods.only.clear();
        for (const Tuning& method : methods) {
          e.methods.only.push_back(method.name);
          e.methods.params[method.name] = method.trials[method.chosen].params;
        }
        e.attacks.only = {name};
        e.attacks.params[name] = params;
        e.metrics.only = {kTarget};
        return e;
      },
      [&](const RunScores& scores, Trial* trial) {
        double hits = 0;
        int64_t n = 0;
        for (const Tuning& method : methods) {
          const Score& score = scores.by_method.at(method.name).at(kTarget);
          hits += score.value * static_cast<double>(score.n);
          n += score.n;
          trial->parts[method.name] = Figure(score);
        }
        trial->score = n == 0 ? 0 : hits / static_cast<double>(n);
      });
  return tuning;
}

}  // namespace

std::vector<Json> DrawTrials(Parameterised& plugin, const std::string& name,
                             const SearchSpace& space, size_t count, uint64_t seed) {
  const Json present = EncodeParams(plugin);
  std::vector<Json> settings = {present};
  Philox rng({.seed = seed, .id = "tune/" + name, .stream = Stream::kOrder});
  for (const int64_t index : rng.Permutation(SizeOf(space))) {
    if (settings.size() >= count) break;
    DecodeParams(present, plugin, name);
    DecodeParams(SettingAt(space, index), plugin, name + ": search_space");
    const Json params = EncodeParams(plugin);
    if (params != present) settings.push_back(params);
  }
  DecodeParams(present, plugin, name);
  return settings;
}

size_t ChooseTrial(const std::vector<Trial>& trials) {
  const auto better = [](const Trial& a, const Trial& b) {
    if (a.failed != b.failed) return b.failed;
    return a.score != b.score ? a.score > b.score : a.cost < b.cost;
  };
  const auto best = std::min_element(trials.begin(), trials.end(), better);
  if (best == trials.end() || best->failed) {
    throw Error("Tuning: every trial failed; the log says why.");
  }
  return static_cast<size_t>(best - trials.begin());
}

std::vector<Tuning> TuneAll(const Experiment& experiment, size_t trials, uint64_t seed,
                            const RunTrial& run) {
  std::vector<Tuning> methods, all;
  for (const std::string& name : Tunable<Method>(experiment.methods, experiment.reference_rows)) {
    methods.push_back(TuneMethod(experiment, name, trials, seed, run));
  }
  all = methods;
  for (const std::string& name : Tunable<Attack>(experiment.attacks, {})) {
    all.push_back(TuneAttack(experiment, name, methods, trials, seed, run));
  }
  return all;
}

Json TuningsToJson(const std::vector<Tuning>& tunings) {
  Json plugins = Json::array();
  for (const Tuning& tuning : tunings) {
    Json trials = Json::array();
    for (const Trial& trial : tuning.trials) {
      trials.push_back({{"params", trial.params},
                        {"score", trial.failed ? Json() : Json(trial.score)},
                        {"parts", trial.parts},
                        {"cost", trial.cost}});
    }
    plugins.push_back({{"kind", tuning.kind},
                       {"name", tuning.name},
                       {"version", tuning.version},
                       {"search_space", tuning.space},
                       {"trials", std::move(trials)},
                       {"chosen", tuning.chosen}});
  }
  return plugins;
}

std::string RenderTunings(const std::vector<Tuning>& tunings) {
  std::string text = fmt::format("# Tuned defaults\n\n{}\n", kTuningRule);
  for (const Tuning& tuning : tunings) {
    text += fmt::format("\n## {} {}\n\n", tuning.kind, tuning.name);
    if (tuning.space.empty()) {
      text += "Nothing to tune.\n";
      continue;
    }
    std::string head = "| trial |", rule = "|--:|";
    for (const auto& [field, values] : tuning.space) {
      head += fmt::format(" {} |", field);
      rule += ":--|";
    }
    text += head + " score, % |\n" + rule + "--:|\n";
    for (size_t i = 0; i < tuning.trials.size(); ++i) {
      const Trial& trial = tuning.trials[i];
      text += fmt::format("| {}{} |", i, i == 0 ? " (default)" : "");
      for (const auto& [field, values] : tuning.space) {
        text += fmt::format(" {} |", trial.params.at(field).dump());
      }
      const std::string score = trial.failed ? "failed" : fmt::format("{:.1f}", 100 * trial.score);
      text += fmt::format(" {} |\n", i == tuning.chosen ? "**" + score + "**" : score);
    }
  }
  return text;
}

}  // namespace excise
