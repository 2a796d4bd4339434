// Looks after a store: how large it is, what of it is still needed, several made one.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/plural.h"
#include "core/program.h"
#include "core/progress.h"
#include "core/store_contents.h"
#include "experiments/flags.h"
#include "experiments/results/read_results.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string store;
  std::vector<std::string> from, keep;
  double hours = 1;
  bool dry_run = false;
};

// Of the folder that runs are given as --cache.
fs::path RootOf(const std::string& cache) { return UserPath(cache) / "store"; }

std::string Size(uintmax_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

void Usage(const Options& options) {
  const fs::path root = RootOf(options.store);
  std::map<std::string, std::pair<int64_t, uintmax_t>> stages;
  uintmax_t all = 0;
  int64_t count = 0;
  for (const StoredArtifact& artifact : ContentsOf(root)) {
    auto& [artifacts, bytes] = stages[artifact.stage];
    ++artifacts;
    ++count;
    bytes += artifact.bytes;
    all += artifact.bytes;
  }
  std::string text;
  for (const auto& [stage, sum] : stages) {
    text += fmt::format("{:<12}{:>9}  {:>14}\n", stage, sum.first, Size(sum.second));
  }
  PrintOut(text + fmt::format("{:<12}{:>9}  {:>14}\n", "all", count, Size(all)));
}

void Merge(const Options& options) {
  // A mistyped name is found before anything is copied.
  for (const std::string& from : options.from) ContentsOf(RootOf(from));
  Store into(RootOf(options.store));
  int64_t damaged = 0;
  for (const std::string& from : options.from) {
    const MergeCounts counts = MergeStores(RootOf(from), &into);
    damaged += counts.damaged;
    PrintOut(fmt::format("{}: {} copied ({}), {} were there, {} damaged\n", from,
                         Plural(counts.copied, "artifact"), Size(counts.bytes), counts.there,
                         counts.damaged));
  }
  if (damaged == 0) return;
  throw Error(fmt::format(
      "{} not copied, for {} damaged (see above). All others are there; a run with this store "
      "computes what is missing.",
      Plural(damaged, "artifact was", "artifacts were"), damaged == 1 ? "it is" : "they are"));
}

// The artifacts from which a results file was made, as it names them itself.
std::set<std::string> NamedIn(const fs::path& file) {
  const Results results = LoadResults(file);
  std::set<std::string> named;
  for (const Record& record : results.records) {
    named.insert(record.lineage.begin(), record.lineage.end());
  }
  for (const Row& row : results.rows) named.insert(row.artifact);
  named.erase("");
  return named;
}

// Of all files together, with their origins. Throws UsageError where a file has nothing here.
std::set<std::string> Needed(const std::vector<StoredArtifact>& contents,
                             const std::vector<std::string>& keep) {
  std::set<std::string> stored, needed;
  for (const StoredArtifact& artifact : contents) stored.insert(artifact.digest);
  for (const std::string& file : keep) {
    const std::set<std::string> named = NamedIn(UserPath(file));
    const bool any = std::any_of(named.begin(), named.end(), [&](const std::string& digest) {
      return stored.count(digest) != 0;
    });
    if (!any) {
      throw UsageError(fmt::format(
          "--keep={}: nothing of it is in this store, so it was made with another one. Nothing was "
          "removed.",
          file));
    }
    needed.insert(named.begin(), named.end());
  }
  needed = WithOrigins(contents, needed);
  // Rows of pictures that no record scores have verdicts, too.
  for (const StoredArtifact& artifact : contents) {
    if (artifact.stage != "judge") continue;
    const std::vector<std::string> named = DigestsIn(artifact.key);
    const bool of_kept = std::any_of(named.begin(), named.end(), [&](const std::string& one) {
      return stored.count(one) != 0 && needed.count(one) != 0;
    });
    if (of_kept) needed.insert(artifact.digest);
  }
  return needed;
}

void Collect(const Options& options) {
  const fs::path root = RootOf(options.store);
  const std::vector<StoredArtifact> contents = ContentsOf(root);
  const std::set<std::string> needed = Needed(contents, options.keep);
  const auto age = std::chrono::duration<double, std::ratio<3600>>(options.hours);
  const auto newest = fs::file_time_type::clock::now() -
                      std::chrono::duration_cast<fs::file_time_type::duration>(age);
  Store store(root, options.dry_run ? StoreUse::kLook : StoreUse::kWrite);
  int64_t kept = 0, young = 0, removed = 0;
  uintmax_t bytes = 0;
  for (const StoredArtifact& artifact : contents) {
    const bool wanted = needed.count(artifact.digest) != 0, fresh = artifact.since > newest;
    kept += wanted ? 1 : 0;
    young += !wanted && fresh ? 1 : 0;
    if (wanted || fresh) continue;
    if (!options.dry_run) store.Remove(artifact.key);
    ++removed;
    bytes += artifact.bytes;
  }
  PrintOut(fmt::format("{} {} ({}); {} kept, {} younger than {:g} h left alone\n",
                       Plural(removed, "artifact"), options.dry_run ? "would go" : "removed",
                       Size(bytes), kept, young, options.hours));
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::InstallInterruptHandlers();
  CLI::App app("Looks after a store, the folder of --cache.");
  app.require_subcommand(1);
  excise::Options options;
  CLI::App* du =
      app.add_subcommand("du", "how many artifacts there are of each stage, and how large");
  CLI::App* merge =
      app.add_subcommand("merge",
                         "copies into a store what it lacks of others, as of the parts of "
                         "a table that machines without a common disk computed");
  CLI::App* gc = app.add_subcommand(
      "gc",
      "removes all from which no given results file was made; a run that wants it again "
      "computes it");
  for (CLI::App* command : {du, merge, gc}) {
    command->add_option("cache", options.store, "the folder that runs are given as --cache")
        ->required();
  }
  merge->add_option("from", options.from, "folders of others, likewise")->required();
  gc->add_option("--keep", options.keep, "a results file, FILE.json (repeatable)")
      ->required()
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  gc->add_option("--older_than", options.hours,
                 "hours; what is younger may belong to a run that goes on")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  gc->add_flag("--dry_run", options.dry_run, "say what would go; nothing is removed");
  return excise::RunProgram(app, argc, argv, [&] {
    excise::RefuseEmptyValues(argc, argv);
    if (*du) excise::Usage(options);
    if (*merge) excise::Merge(options);
    if (*gc) excise::Collect(options);
  });
}
