// Everything a run works with, loaded and instantiated: plug-ins with their parameters, concepts,
// prompts, models, numerics. Read-only once open, so workers share it.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "core/json.h"
#include "datasets/concept.h"
#include "datasets/dataset.h"
#include "experiments/experiment.h"
#include "methods/method.h"
#include "metrics/judge_panel.h"
#include "metrics/metric.h"
#include "models/backbone.h"

namespace excise {

// The method that changes nothing and the attack that changes nothing. They always take part: the
// unmodified model's pictures are what retention is measured against.
inline constexpr const char* kUnmodified = "none";

// What a picture is asked to show: the concept itself, or what must stay.
inline constexpr const char* kGroups[] = {"target", "near", "far", "lexical"};

// A plug-in that takes part in the run.
template <class Base>
struct Entry {
  std::string name;
  std::unique_ptr<Base> plugin;
  Json params;                 // decoded, defaults included
  std::string folder_digest;   // of the weights that a method loads itself, or ""
  std::string not_applicable;  // why it cannot run on this backbone, or ""
};

struct Lab {
  Experiment experiment;
  Json numerics;
  Backbone backbone;
  std::shared_ptr<const JudgePanel> judges;
  ClipModel reference_clip, independent_clip, own_clip;
  std::vector<Concept> concepts;
  std::unique_ptr<Dataset> dataset;
  Json dataset_params;
  std::vector<Entry<Method>> methods;  // reference rows first, then by name
  std::vector<Entry<Attack>> attacks;  // "none" first, then by name
  std::vector<Entry<Metric>> metrics;  // by group (erasure, retention, quality, cost), then by name
  // Test prompts by concept (index) and group.
  std::vector<std::map<std::string, std::vector<Prompt>>> prompts;

  size_t unmodified = 0;  // index of method "none"
  // The encoder that transfer attacks read.
  const ClipModel& Surrogate() const;
  // A fresh metric of entry `index` with its parameters.
  std::unique_ptr<Metric> MakeMetric(size_t index) const;
};

struct Folders {
  std::filesystem::path models = "models";  // holds the backbone's folder
  std::filesystem::path concepts = "datasets/concepts";
};

// Throws UsageError (unknown names) or Error (missing weights).
std::unique_ptr<Lab> OpenLab(const Experiment& experiment, const Folders& folders);

// The concept as methods and attacks may see it: nothing that is for evaluation only.
Concept VisibleToMethods(const Concept& subject);

}  // namespace excise
