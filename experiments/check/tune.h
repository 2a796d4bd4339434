// The one rule by which the plug-ins' defaults for the emoji backbone are chosen.
//
// Every method and every attack gets the same number of trials: its present defaults, and further
// settings drawn without replacement from its own search_space() by a keyed generator. A trial is a
// run of the experiment on the split `select`, which no table reads.
//   Method: min(1 - target rate without attack, retention), both over all concepts.
//   Attack: target rate over all concepts and the tuned methods (reference rows left out).
// The highest score wins; of equal ones the cheaper removal, then the earlier trial, so defaults
// stay unless something is better.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/params.h"
#include "experiments/formats/experiment.h"
#include "metrics/metric.h"

namespace excise {

inline constexpr const char* kTuningRule =
    "Methods: the largest min(1 - target rate, retention) without attack. Attacks: the largest "
    "target rate over the tuned methods. Ties: the cheaper removal, then the earlier trial; the "
    "first trial is the default. The same number of trials for all, drawn from the plug-in's "
    "search_space(), on the split select.";

struct Trial {
  Json params;                  // all fields, defaults included
  double score = 0;             // by the rule; what it is made of is in `parts`
  Json parts = Json::object();  // "target": {value, n, ci95}, "kept": ..., or "problem"
  int64_t cost = 0;             // gradient steps and U-Net evaluations of one removal
  bool failed = false;
};

struct Tuning {
  std::string kind, name;  // "method" | "attack"
  int version = 0;
  SearchSpace space;
  std::vector<Trial> trials;
  size_t chosen = 0;
};

// At most `count` different settings of `plugin`, its present one first; further ones from Philox
// keyed by `seed` and `name`. Throws UsageError when the space names an unknown field or value.
std::vector<Json> DrawTrials(Parameterised& plugin, const std::string& name,
                             const SearchSpace& space, size_t count, uint64_t seed);

// The rule. Throws Error when every trial failed.
size_t ChooseTrial(const std::vector<Trial>& trials);

// Runs one experiment and returns the scores over all concepts: (method, metric) -> score.
struct RunScores {
  std::map<std::string, std::map<std::string, Score>> by_method;
  std::string problem;
};
using RunTrial = std::function<RunScores(const Experiment&)>;

// Tunes every method of `experiment` that is no reference row, then every attack against them.
std::vector<Tuning> TuneAll(const Experiment& experiment, size_t trials, uint64_t seed,
                            const RunTrial& run);

Json TuningsToJson(const std::vector<Tuning>& tunings);
// A Markdown table a plug-in.
std::string RenderTunings(const std::vector<Tuning>& tunings);

}  // namespace excise
