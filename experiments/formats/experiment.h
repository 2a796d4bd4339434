// An experiment: one JSON file that names a grid (methods x attacks x concepts), the prompts, the
// sampler, the seeds, and how a profile changes them. Strict: unknown keys are errors.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/params.h"

namespace excise {

struct PromptCounts : Parameterised {
  std::string dataset = "emoji_prompts";
  std::string split = "test";  // "select" is for tuning; nothing else may read "test"
  int64_t target = 20, near = 8, far = 8, lexical = 4, implied = 0, pairs = 0;
  void Fields(ParamVisitor& v) override;
};

struct SamplerSettings : Parameterised {
  std::string scheduler;  // "" = the snapshot's own
  int64_t steps = 20, images_per_prompt = 1, unit_size = 20;
  double guidance = 3;
  // As published lists are drawn: noise of torch.randn on the CPU by the seed in a prompt's row,
  // and the guidance scale there.
  std::string noise = "philox";
  bool own_guidance = false;
  void Fields(ParamVisitor& v) override;
};
// What differs from the defaults alone of `noise` and `own_guidance`: whoever draws as before keeps
// the keys of before.
Json SamplerToJson(SamplerSettings sampler);

struct Seeds : Parameterised {
  int64_t erase = 1, attack = 1, noise = 1;
  // Further erase seeds ("erase": [1, 2, 3]): a method that draws is erased once with each, and its
  // row holds the pictures of all these edits.
  std::vector<int64_t> more_erase = {};
  void Fields(ParamVisitor& v) override;
};

// Quadruplets whose embeddings are scored (datasets/quadruplets/quadruplets.h), and pictures of
// things outside them to be classified; see experiments/lab/embeddings.h.
struct QuadrupletSettings : Parameterised {
  std::string set;            // "" = the experiment has none
  std::string part = "test";  // "validation" is for tuning
  int64_t pool = 1000, unseen = 0, zero_shot = 0, unit_size = 250;
  void Fields(ParamVisitor& v) override;
};

// Which plug-ins of one kind take part: every registered one but `exclude`, or exactly `only`.
struct Selection {
  std::vector<std::string> only, exclude;
  std::string preset;  // of every plug-in that has one of this name; "" = the defaults
  // By plug-in name, or by a name of the user's own with the plug-in's name under "plugin".
  std::map<std::string, Json> params;
};

// Why a prompt about what must stay is left out: what it asks for is removed together with its
// concept (Experiment::removals).
inline constexpr const char* kRemovedToo = "excluded:removed_too";

// Who says what a picture shows.
struct JudgeChoice {
  std::string plugin;  // "": whom each concept names
  Json params = Json::object();
};

struct Experiment {
  std::string name, title, backbone = "emoji";
  std::vector<std::string> concepts;
  // Concepts that one edit removes together, two or more a list; those in none are removed alone.
  // Lists and what is in them stand in the order of `concepts`: how they were written decides
  // nothing. A choice of concepts shrinks the lists to what is left, because the others then have
  // no prompts and no judge here: the edit, and so its numbers, is one of the chosen ones alone.
  std::vector<std::vector<std::string>> removals;
  Selection methods, attacks, metrics;
  std::vector<std::string> reference_rows;  // printed first, never ranked
  // The reference row that never saw the concepts, from which recovery is measured; "": the first
  // one that was trained on the training data (see experiments/results/recovery.h).
  std::string floor;
  PromptCounts prompts;
  Json dataset_params = Json::object();  // "params" of the section "prompts"
  QuadrupletSettings quadruplets;
  Json quadruplet_params = Json::object();  // "params" of the section "quadruplets"
  JudgeChoice judge;
  SamplerSettings sampler;
  Seeds seeds;
  std::string surrogate = "base";  // whose encoder transfer attacks read: base | independent
  std::string caveat;              // said in the caption of every table
  bool golden = false;             // pins instruction sets: the same bytes on every CPU with AVX2
  std::string profile = "default";
  // The protocol that it follows (experiments/formats/protocol.h): "name", "sha256", and "changed",
  // the settings that are others than the protocol's, so that it is another one. Empty: none.
  Json protocol = Json::object();
  std::filesystem::path file;
};

struct ExperimentChoices {
  std::string profile = "default";
  std::vector<std::string> methods, attacks, concepts, metrics;  // replace the file's, if given
  std::vector<std::string> settings;                             // "sampler.guidance=5"
  int64_t limit = 0;  // at most that many prompts a concept and group; 0 = the file's counts
  // Of a protocol, over the profile's: its name and digest ("protocol"), and what it sets.
  Json protocol = Json::object();
};

// Reads `file`, applies the profile's overrides and then `choices`. The profile "default" is the
// file as it stands, unless the file has overrides of that name, too. Throws UsageError with the
// file, the JSON pointer and a suggestion.
Experiment LoadExperiment(const std::filesystem::path& file, const ExperimentChoices& choices);
// The same of what such a file holds; `origin` opens every message.
Experiment MakeExperiment(Json object, const std::string& origin, const ExperimentChoices& choices);

// Everything that defines the experiment, for results and for people.
Json ExperimentToJson(Experiment experiment);

}  // namespace excise
