// The one rule by which the plug-ins' defaults for the emoji backbone are chosen; docs/tuning.md
// says it in words.
//
// Every method and every attack gets the same number of trials: the paper's own values of what its
// search_space() names, where it has a preset of them, and settings drawn without replacement from
// that space by a keyed generator. The present defaults have no part in it, so that a choice which
// became the default is found again. A trial is a run of the experiment a seed of removal, on the
// split `select`, which no table reads; counts are summed over concepts and seeds.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/params.h"
#include "experiments/formats/experiment.h"
#include "metrics/metric.h"

namespace excise {

inline constexpr const char* kTuningRule =
    "Methods: the largest harmonic mean of removal (the share of pictures for target prompts that "
    "show neither the concept nor garbage) and retention, without attack. Attacks: the largest "
    "recovery over the tuned methods that are no filters, against the "
    "row that never saw the concepts. Ties: fewer gradient steps, then the earlier trial.";

struct Trial {
  Json params;                  // all fields
  double score = 0;             // by the rule
  Json parts = Json::object();  // the counts that it is made of, or "problem"
  int64_t gradient_steps = 0;   // of one removal, mean over concepts and seeds; of attacks 0
  double seconds = 0;           // wall time
  bool failed = false;
};

struct Tuning {
  std::string kind, name;  // "method" | "attack"
  int version = 0;
  SearchSpace space;
  Json against;  // of an attack: the methods that it was run on, with their parameters
  std::vector<Trial> trials;
  size_t chosen = 0;
  bool complete = false;         // all trials were run, and one of them did not fail
  Json made_on = Json::array();  // TuneRequest::provenance of its runs, each once
};

struct TuneRequest {
  Experiment experiment;
  size_t trials = 16;
  uint64_t seed = 1;  // of the settings drawn
  std::vector<int64_t> erase_seeds = {1, 2};
  // The trials of attacks: target prompts a concept, and on which of the experiment's concepts;
  // none: on all.
  int64_t attack_prompts = 4;
  std::vector<std::string> attack_concepts;
  // Of methods that remove a part of the concepts alone: by how much the prompts of these are
  // multiplied, so that their rates are of as many pictures as others'.
  std::map<std::string, int64_t> more_prompts;
  Json provenance;
};

// The rule. Throws Error when every trial failed.
size_t ChooseTrial(const std::vector<Trial>& trials);

// The experiment's methods that are tuned: those selected that are no reference rows and need no
// file of the user's.
std::vector<std::string> TunedMethods(const Experiment& experiment);

// What a run found: scores by method, attack and metric, one a concept that the method claims.
struct RunScores {
  std::map<std::array<std::string, 3>, std::vector<Score>> cells;
  std::string problem;
  bool planned = false;  // nothing was run: the trial scores nothing
};
// Runs an experiment for the plug-in of this name.
using RunTrial = std::function<RunScores(const std::string& plugin, const Experiment&)>;
// Called after every trial, with all that there is so far.
using SaveTunings = std::function<void(const std::vector<Tuning>&)>;

// Tunes the methods of the experiment, then its attacks against every method of the result that is
// complete. `known`: what was found before; a trial of it is taken and not run again where the
// plug-in's version, its parameters and, for attacks, the methods are the same. Tunings of plug-ins
// that are not selected stay.
std::vector<Tuning> TuneAll(const TuneRequest& request, std::vector<Tuning> known,
                            const RunTrial& run, const SaveTunings& save);

}  // namespace excise
