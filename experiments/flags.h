// The command line of a table: flags, what they may be, and where they point to.
#pragma once

#include <filesystem>
#include <string>

#include "experiments/experiment.h"
#include "experiments/lab.h"

namespace CLI {
class App;
}

namespace excise {

struct Flags {
  std::string bundled, experiment;  // the build names the bundled one
  ExperimentChoices choices;
  std::string methods, attacks, concepts, metrics;
  std::string device = "cpu", dtype = "fp32", models, cache, out, format = "md", shard,
              stage = "score", check;
  std::string images, concepts_dir, export_prompts, export_models, user_data, plot;
  int64_t update_reference = 0;  // erase seeds; 0 = no
  int workers = 0;
  std::vector<std::string> arguments;
  bool dry_run = false, explain = false, force = false, list = false, update_golden = false;
};

void AddFlags(CLI::App& app, Flags* flags);
// Those of the command line that decide numbers, for provenance: not folders of this machine such
// as
// --cache, nor --workers.
std::vector<std::string> ArgumentsOfNumbers(int argc, const char* const* argv);
// Throws UsageError on values and combinations that cannot be meant. Also fills `choices` from the
// comma-separated lists.
void CheckFlags(Flags* flags);

// The user's file, or the one that the build names: a path in the runfiles or the checkout.
std::filesystem::path ExperimentFile(const Flags& flags);
// --cache, EXCISE_CACHE, XDG_CACHE_HOME or ~/.cache/excise. UsageError where there is none.
std::filesystem::path CacheFolder(const Flags& flags);
// The folder that holds the backbone's folder.
std::filesystem::path ModelsFolder(const Flags& flags, const std::string& backbone);
// Where models, concepts and pictures are.
Folders FoldersOf(const Flags& flags, const std::string& backbone);
// A file below results/, as golden/table1.json: what is written belongs to the sources, not to the
// runfiles.
std::filesystem::path CommittedFile(const std::string& relative, bool write = false);

}  // namespace excise
