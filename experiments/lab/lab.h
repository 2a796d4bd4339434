// Everything a run works with, loaded and instantiated: plug-ins with their parameters, concepts,
// prompts, models, numerics. Read-only once open, so workers share it.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attacks/attack.h"
#include "core/input_files.h"
#include "core/json.h"
#include "datasets/formats/concept.h"
#include "datasets/formats/dataset.h"
#include "experiments/formats/experiment.h"
#include "experiments/lab/embeddings.h"
#include "experiments/lab/inputs.h"
#include "experiments/lab/selection.h"
#include "judges/judge.h"
#include "methods/method.h"
#include "metrics/metric.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/compute.h"

namespace excise {

// The method that changes nothing and the attack that changes nothing. They always take part: the
// unmodified model's pictures are what retention is measured against.
inline constexpr const char* kUnmodified = "none";

// What a picture is asked to show: the concept itself, what must stay; the concept by what it is
// like and not by name, and two things of which one must stay.
inline constexpr const char* kGroups[] = {"target", "near", "far", "lexical", "implied", "pairs"};

struct Lab {
  Experiment experiment;
  Json numerics;
  Compute compute;
  Backbone backbone;
  // The first two without weights where the backbone brings none.
  ClipModel reference_clip, independent_clip, own_clip;
  std::vector<Concept> concepts;
  std::vector<std::string> known_concepts;  // names of all that there are
  Entry<Dataset> dataset;
  std::vector<Entry<Method>> methods;  // reference rows first, then by name; see AddEdits
  std::vector<Entry<Attack>> attacks;  // "none" first, then by name
  std::vector<Entry<Judge>> judges;    // of the concepts, each once; see JudgeOf
  std::vector<Entry<Metric>> metrics;  // by group (erasure, retention, quality, cost), then by name
  std::shared_ptr<const QuadrupletBench> quadruplets;  // or null
  // Test prompts by concept (index) and group; of the embedded groups, the items of the bench.
  std::vector<std::map<std::string, std::vector<Prompt>>> prompts;
  // Rows of the same lists that were left out.
  std::vector<std::map<std::string, std::vector<Exclusion>>> excluded;

  // What of each method's edited models an adaptive attack can see, read off the first of them;
  // none where that is not known yet. See experiments/run/offers.h.
  std::vector<std::optional<std::vector<std::string>>> offers;

  // What each removal may read, by method and concept; and concepts as metrics see them.
  std::vector<std::vector<RemovalInputs>> removals;
  std::vector<Concept> measured;
  // Prompts that attacks on a concept may ask for, by attack and concept.
  std::vector<std::vector<std::vector<Prompt>>> seeds;

  // The user's files that plug-ins read later, and the folders of methods. What the backbone and
  // the judges are was read at the opening.
  InputFiles inputs;

  size_t unmodified = 0;  // index of method "none"
  // The erase seed of the edited model.
  int64_t EraseSeedOf(size_t method) const;
  // The methods of the same row: the first one, and how many they are. One edited model is a method
  // of its own to every stage; tables have a row for all that differ in their erase seed alone.
  size_t RowOf(size_t method) const { return method - methods[method].edit; }
  size_t EditsOf(size_t method) const;
  // Methods that open a row.
  std::vector<size_t> Rows() const;
  // The encoder that transfer attacks read.
  const ClipModel& Surrogate() const;
  // Who says what the concept's pictures show.
  const Entry<Judge>& JudgeOf(size_t subject) const;
  // Height and width of every picture.
  int64_t PictureSide() const;
  // Whose pictures a method's are compared with: the unmodified model's, or those that came with
  // pictures made elsewhere.
  size_t BaseOf(size_t method) const;
  // Why the method is not asked to remove the concept, or "": a concept that a method does not
  // claim to remove is no failure. Of concepts that one edit removes together it must claim all.
  std::string ReasonNotClaimed(size_t method, size_t subject) const;
  // Why a target prompt is not attacked ("excluded:no_candidate"), or "".
  std::string ReasonNotAttacked(size_t attack, size_t subject, const Prompt& seed) const;
  AttackTraits TraitsOf(size_t attack) const { return attacks[attack].plugin->traits(); }
  // Whether the attack is crafted anew against every method.
  bool ForEachMethod(size_t attack) const {
    return TraitsOf(attack).ForEachMethod() && attacks[attack].found_on.empty();
  }
  // The method against which it is crafted where `method` is attacked: that one; the first edit of
  // the row that the experiment names (found_on); the unmodified model, of an attack that meets
  // none.
  size_t VictimOf(size_t attack, size_t method) const;
  // Whether the attack can be run on this method: an adaptive one needs something to adapt to.
  // Where nobody knows yet, it can.
  bool AttackApplies(size_t attack, size_t method) const;
  // What the attack did to the method's prompts is not ours to know: pictures made elsewhere.
  bool MadeElsewhere(size_t method) const { return methods[method].pictures != nullptr; }
  // A fresh metric of entry `index` with its parameters.
  std::unique_ptr<Metric> MakeMetric(size_t index) const;
};

// Whether what the method makes depends on the erase seed: it draws, or learns from pictures that
// were drawn.
bool DependsOnSeed(const MethodTraits& traits);
// Puts a method of the same row behind each one that depends on the erase seed, for every further
// seed of the experiment.
void AddEdits(Lab* lab);

struct Folders {
  std::filesystem::path models = "models";               // holds the backbone's folder
  std::filesystem::path concepts = "datasets/concepts";  // and, where it is there, "wide" in it
  std::filesystem::path own_concepts = "";  // a folder of the user with more of them, or ""
  std::filesystem::path pictures = "";      // a folder of pictures made elsewhere, or ""
};

// Throws UsageError (unknown names) or Error (missing weights, a file that changes meanwhile).
// Erasing and attacking start from float32 weights on `compute`'s device; pictures are drawn in its
// dtype.
std::unique_ptr<Lab> OpenLab(const Experiment& experiment, const Folders& folders,
                             const Compute& compute = {});

}  // namespace excise
