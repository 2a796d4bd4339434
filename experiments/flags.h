// The command line of a table: flags, what they may be, and where they point to.
#pragma once

#include <filesystem>
#include <string>

#include "experiments/experiment.h"

namespace CLI {
class App;
}

namespace excise {

struct Flags {
  std::string bundled, experiment;  // the build names the bundled one
  ExperimentChoices choices;
  std::string methods, attacks, concepts, metrics;
  std::string device = "cpu", models, cache, out, format = "md", shard, stage = "score", check;
  int workers = 0;
  bool dry_run = false, explain = false, force = false, list = false, update_golden = false;
};

void AddFlags(CLI::App& app, Flags* flags);
// Throws UsageError on values and combinations that cannot be meant. Also fills `choices` from the
// comma-separated lists.
void CheckFlags(Flags* flags);

// The user's file, or the one that the build names: a path in the runfiles or the checkout.
std::filesystem::path ExperimentFile(const Flags& flags);
// --cache, EXCISE_CACHE, XDG_CACHE_HOME or ~/.cache/excise. UsageError where there is none.
std::filesystem::path CacheFolder(const Flags& flags);
// The folder that holds the backbone's folder.
std::filesystem::path ModelsFolder(const Flags& flags, const std::string& backbone);
// results/golden/<name>.json: golden files belong to the sources, not to the runfiles.
std::filesystem::path GoldenFile(const Experiment& experiment, bool write);

}  // namespace excise
