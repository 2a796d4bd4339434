// Everything a run works with, loaded and instantiated: plug-ins with their parameters, concepts,
// prompts, models, numerics. Read-only once open, so workers share it.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "core/hash.h"
#include "core/json.h"
#include "datasets/concept.h"
#include "datasets/dataset.h"
#include "experiments/experiment.h"
#include "experiments/picture_folder.h"
#include "methods/method.h"
#include "metrics/judge_panel.h"
#include "metrics/metric.h"
#include "models/backbone.h"
#include "models/compute.h"

namespace excise {

// The method that changes nothing and the attack that changes nothing. They always take part: the
// unmodified model's pictures are what retention is measured against.
inline constexpr const char* kUnmodified = "none";

// What a picture is asked to show: the concept itself, or what must stay.
inline constexpr const char* kGroups[] = {"target", "near", "far", "lexical"};

// A plug-in that takes part in the run, as a row or column `name`: its own name, or one that the
// experiment gives it ("my_esd": {"plugin": "snapshot", ...}), so that one plug-in can take part
// several times.
template <class Base>
struct Entry {
  std::string name, plugin_name;
  std::unique_ptr<Base> plugin;
  Json params;                      // for results: defaults included, of files the name alone
  Json key_params;                  // for keys: without files
  Json files = Json::object();      // for keys: field -> SHA-256 of the file or folder
  std::string folder_digest = "";   // of the weights that a method loads itself, or ""
  std::string not_applicable = "";  // why it cannot run on this backbone, or ""
  // Pictures made elsewhere, which stand for a method; or null.
  std::shared_ptr<const PictureRow> pictures = nullptr;
};

// `plugin`, with its parameters set, as it is entered under `name`.
template <class Base>
Entry<Base> MakeEntry(const std::string& name, const std::string& plugin_name,
                      std::unique_ptr<Base> plugin) {
  Entry<Base> entry{name, plugin_name, std::move(plugin), {}, {}};
  entry.params = EncodeParams(*entry.plugin, PathForm::kName);
  entry.key_params = EncodeParams(*entry.plugin, PathForm::kLeftOut);
  for (const auto& [field, path] : PathsOf(*entry.plugin)) {
    entry.files[field] = Sha256HexOfPath(path);
  }
  return entry;
}

struct Lab {
  Experiment experiment;
  Json numerics;
  Compute compute;
  Backbone backbone;
  std::shared_ptr<const JudgePanel> judges;
  ClipModel reference_clip, independent_clip, own_clip;
  std::vector<Concept> concepts;
  std::vector<std::string> known_concepts;  // names of all that there are
  Entry<Dataset> dataset;
  std::vector<Entry<Method>> methods;  // reference rows first, then by name
  std::vector<Entry<Attack>> attacks;  // "none" first, then by name
  std::vector<Entry<Metric>> metrics;  // by group (erasure, retention, quality, cost), then by name
  // Test prompts by concept (index) and group.
  std::vector<std::map<std::string, std::vector<Prompt>>> prompts;
  // Rows of the same lists that were left out.
  std::vector<std::map<std::string, std::vector<Exclusion>>> excluded;

  size_t unmodified = 0;  // index of method "none"
  // The encoder that transfer attacks read.
  const ClipModel& Surrogate() const;
  // Height and width of every picture.
  int64_t PictureSide() const;
  // Whose pictures a method's are compared with: the unmodified model's, or those that came with
  // pictures made elsewhere.
  size_t BaseOf(size_t method) const;
  // Whether the method is said to remove the concept; what it is not said to remove is no failure.
  bool Claims(size_t method, size_t subject) const;
  // Why a target prompt is not attacked ("excluded:no_candidate"), or "".
  std::string NotAttacked(size_t attack, size_t subject, const Prompt& seed) const;
  // A fresh metric of entry `index` with its parameters.
  std::unique_ptr<Metric> MakeMetric(size_t index) const;
};

struct Folders {
  std::filesystem::path models = "models";  // holds the backbone's folder
  std::filesystem::path concepts = "datasets/concepts";
  std::filesystem::path own_concepts = "";  // a folder of the user with more of them, or ""
  std::filesystem::path pictures = "";      // a folder of pictures made elsewhere, or ""
};

// Throws UsageError (unknown names) or Error (missing weights).
// Erasing and attacking start from float32 weights on `compute`'s device; pictures are drawn in its
// dtype.
std::unique_ptr<Lab> OpenLab(const Experiment& experiment, const Folders& folders,
                             const Compute& compute = {});

// The concept as methods and attacks may see it: nothing that is for evaluation only.
Concept VisibleToMethods(const Concept& subject);

}  // namespace excise
