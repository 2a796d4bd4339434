// The command line of a table: flags, what they may be, and where they point to.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/workers.h"
#include "experiments/formats/experiment.h"
#include "experiments/lab/lab.h"
#include "experiments/run/pipeline.h"

namespace CLI {
class App;
}

namespace excise {

struct Flags {
  std::string bundled, experiment;  // the build names the bundled one
  ExperimentChoices choices;
  std::string methods, attacks, concepts, metrics;
  std::string device = "cpu", dtype = "fp32", models, cache, out, format = "text", shard,
              stage = "score", check, list;  // list: "" = not asked for, "all" = without a name
  std::vector<std::string> reuse;            // results files
  std::string protocol, protocol_files;
  std::string images, concepts_dir, export_prompts, export_models, user_data, results, plot;
  int64_t update_reference = 0;  // erase seeds; 0 = no
  int workers = 0;
  int64_t model_memory = kModelMemory >> 20;  // MiB
  std::vector<std::string> arguments;
  bool dry_run = false, explain = false, force = false, update_golden = false,
       sensitive_texts = false;
};

void AddFlags(CLI::App& app, Flags* flags);
// Those of the command line that decide numbers, for provenance: not folders of this machine such
// as --cache, nor --workers.
std::vector<std::string> ArgumentsOfNumbers(int argc, const char* const* argv);
// Throws UsageError that names what is known, the nearest first, where `value` is none of it.
void RequireOneOf(const char* flag, const std::string& value,
                  const std::vector<std::string>& known);
// Throws UsageError on a flag without its value, which a shell variable that is not set leaves:
// "--cache=" is not the default folder, nor "--check=" no check.
void RefuseEmptyValues(int argc, const char* const* argv);
// Throws UsageError on values and combinations that cannot be meant, with `part` of the run to do.
// Also fills `choices` from the comma-separated lists.
void CheckFlags(const ShardChoice& part, Flags* flags);

// FILE of --export_prompts=found:FILE, or "".
std::string FoundFile(const Flags& flags);

// What the command line makes of an experiment beside its profile, by flag; empty for the whole run
// that its file describes.
std::map<std::string, std::string> SelectionOf(const Flags& flags, const std::string& backbone);
// "table1-default.json" for the whole run; a selection's name has a digest of it, as in
// "table1-default-1a2b3c4d.json", so that no run replaces another one's results.
std::string ResultsName(const Experiment& experiment,
                        const std::map<std::string, std::string>& selection);

// Reads the protocol that --protocol names into choices.protocol: one that comes with Excise, or
// FILE.json of the user. Throws UsageError for an unknown name and for files that are missing.
void TakeProtocol(Flags* flags);

// The user's file, or the one that the build names: a path in the runfiles or the checkout.
std::filesystem::path ExperimentFile(const Flags& flags);
// --cache, EXCISE_CACHE, XDG_CACHE_HOME or ~/.cache/excise. UsageError where there is none.
std::filesystem::path CacheFolder(const Flags& flags);
// The folder that holds the backbone's folder.
std::filesystem::path ModelsFolder(const Flags& flags, const std::string& backbone);
// Where models, concepts and pictures are.
Folders FoldersOf(const Flags& flags, const std::string& backbone);
// A file below results/, as checks/golden/table1.json: what is written belongs to the sources, not
// to the runfiles.
std::filesystem::path CommittedFile(const std::string& relative, bool write = false);

}  // namespace excise
