#include "experiments/flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "datasets/data_file.h"
#include "experiments/runner.h"
#include "models/program.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> Names(const std::string& list, const char* flag) {
  std::vector<std::string> names;
  for (size_t start = 0; !list.empty() && start <= list.size();) {
    const size_t comma = std::min(list.find(',', start), list.size());
    const std::string name = list.substr(start, comma - start);
    if (name.empty()) throw UsageError(fmt::format("{}={}: an empty name.", flag, list));
    names.push_back(name);
    start = comma + 1;
  }
  return names;
}

void RequireOneOf(const char* flag, const std::string& value,
                  const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), value) != known.end()) return;
  const std::string nearest = Suggest(value, known);
  throw UsageError(fmt::format("{}={}: unknown.{} Known: {}.", flag, value,
                               nearest.empty() ? "" : fmt::format(" Did you mean '{}'?", nearest),
                               fmt::join(known, ", ")));
}

}  // namespace

void AddFlags(CLI::App& app, Flags* f) {
  app.add_option("table", f->bundled, "the experiment's JSON file");
  app.add_option("--experiment", f->experiment, "another JSON file");
  app.add_option("--profile", f->choices.profile, "which profile of the file: default, smoke, ...")
      ->capture_default_str();
  app.add_option("--methods", f->methods, "only these, comma-separated (none always takes part)");
  app.add_option("--attacks", f->attacks, "only these, comma-separated (none always takes part)");
  app.add_option("--concepts", f->concepts, "only these, comma-separated");
  app.add_option("--metrics", f->metrics, "only these, comma-separated");
  app.add_option("--set", f->choices.settings,
                 "changes a setting: sampler.guidance=5, methods.esd.lr=1e-4 (repeatable)")
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--limit", f->choices.limit, "at most that many prompts a concept and group");
  app.add_option("--device", f->device, "cpu")->capture_default_str();
  app.add_option("--models", f->models, "folder that holds the backbone's folder");
  app.add_option("--cache", f->cache, "folder of the store (default: ~/.cache/excise)");
  app.add_option("--out", f->out, "results file, FILE.json; rows and table are written beside it");
  app.add_option("--format", f->format, "what is printed: md or json")->capture_default_str();
  app.add_option("--shard", f->shard, "i/n: do part i of n; then run once more without it");
  app.add_option("--workers", f->workers, "threads (default: all cores)");
  app.add_option("--stage", f->stage,
                 fmt::format("stop after a stage: {}", fmt::join(StageNames(), ", ")));
  app.add_flag("--dry_run", f->dry_run, "say what would be done, and how long it would take");
  app.add_flag("--explain", f->explain, "say why what is missing is missing");
  app.add_flag("--force", f->force, "recompute what is stored, and compare");
  app.add_flag("--list", f->list, "list all plug-ins");
  app.add_option("--check", f->check, "compare with results/golden (recomputes): --check=golden")
      ->expected(0, 1)
      ->default_str("golden");
  app.add_flag("--update_golden", f->update_golden, "write results/golden (recomputes)");
}

void CheckFlags(Flags* flags) {
  Flags& f = *flags;
  if (f.device != "cpu") {
    throw UsageError(fmt::format(
        "--device={}: this version computes on the CPU only. Leave the flag out.", f.device));
  }
  RequireOneOf("--format", f.format, {"md", "json"});
  RequireOneOf("--stage", f.stage, StageNames());
  RequireOneOf("--check", f.check, {"", "golden"});
  if (f.workers < 0) throw UsageError(fmt::format("--workers={}: 1 or more.", f.workers));
  const bool whole = f.stage == "score" && f.shard.empty();
  if (!whole && (!f.check.empty() || f.update_golden)) {
    throw UsageError("--check and --update_golden need a whole run, without --stage and --shard.");
  }
  if (!f.out.empty() && fs::path(f.out).extension() != ".json") {
    throw UsageError(fmt::format("--out={}: the name of a .json file is expected.", f.out));
  }
  f.choices.methods = Names(f.methods, "--methods");
  f.choices.attacks = Names(f.attacks, "--attacks");
  f.choices.concepts = Names(f.concepts, "--concepts");
  f.choices.metrics = Names(f.metrics, "--metrics");
}

fs::path ExperimentFile(const Flags& f) {
  if (!f.experiment.empty()) return UserPath(f.experiment);
  if (f.bundled.empty()) {
    throw UsageError("No experiment. Name a JSON file: --experiment=experiments/table1.json.");
  }
  std::error_code ignored;
  if (fs::exists(f.bundled, ignored)) return f.bundled;
  if (fs::exists(UserPath(f.bundled), ignored)) return UserPath(f.bundled);
  return DataFile(f.bundled);
}

fs::path CacheFolder(const Flags& f) {
  if (!f.cache.empty()) return UserPath(f.cache);
  const auto environment = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (const std::string given = environment("EXCISE_CACHE"); !given.empty()) return given;
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) {
    return fs::path(xdg) / "excise";
  }
  if (const std::string home = environment("HOME"); !home.empty()) {
    return fs::path(home) / ".cache" / "excise";
  }
  throw UsageError("There is no HOME to keep the store in. Name a folder with --cache=DIR.");
}

fs::path ModelsFolder(const Flags& f, const std::string& backbone) {
  if (!f.models.empty()) return UserPath(f.models);
  try {
    return DataFile("models/" + backbone).parent_path();
  } catch (const Error&) {
    return "models";  // OpenLab says what is missing and what to do
  }
}

fs::path GoldenFile(const Experiment& experiment, bool write) {
  const std::string relative = "results/golden/" + experiment.name + ".json";
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace != nullptr) return fs::path(workspace) / relative;
  return write ? fs::path(relative) : DataFile(relative);
}

}  // namespace excise
