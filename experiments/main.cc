// One table: runs an experiment and prints its table.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "core/progress.h"
#include "core/registry.h"
#include "core/version.h"
#include "datasets/data_file.h"
#include "experiments/check.h"
#include "experiments/experiment.h"
#include "experiments/grid.h"
#include "experiments/lab.h"
#include "experiments/plan.h"
#include "experiments/runner.h"
#include "experiments/table.h"
#include "models/numerics.h"
#include "models/program.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

struct Flags {
  std::string bundled, experiment;  // the build names the bundled one
  ExperimentChoices choices;
  std::string methods, attacks, concepts, metrics;
  std::string device = "cpu", models, cache, out, format = "md", shard, stage = "score", check;
  int workers = 0;
  bool dry_run = false, explain = false, force = false, list = false, update_golden = false;
};

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

void CheckFlags(const Flags& f) {
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
}

// The user's file, or the one that the build names: a path in the runfiles or the checkout.
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

// Golden files belong to the sources, not to the runfiles.
fs::path GoldenFile(const Experiment& experiment, bool write) {
  const std::string relative = "results/golden/" + experiment.name + ".json";
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace != nullptr) return fs::path(workspace) / relative;
  return write ? fs::path(relative) : DataFile(relative);
}

void Print(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0) {
    throw Error(fmt::format("The output cannot be written: {}.", std::strerror(errno)));
  }
}

void LogLines(const std::string& text) {
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    LogInfo(text.substr(start, end - start));
    start = end + 1;
  }
}

// What was asked beside the table. Returns whether numbers are as they should be.
bool CheckAgainstGolden(const Flags& f, const Lab& lab, const Json& results) {
  if (f.update_golden) {
    const fs::path file = GoldenFile(lab.experiment, /*write=*/true);
    UpdateGolden(results, HostCpu(), file);
    LogInfo(fmt::format("golden: wrote {}", file.string()));
  }
  if (f.check.empty()) return true;
  const fs::path file = GoldenFile(lab.experiment, /*write=*/false);
  const GoldenReport report = CompareWithGolden(results, ReadJsonFile(file));
  LogLines(report.Summary());
  return report.verdict == GoldenVerdict::kSame || report.verdict == GoldenVerdict::kOtherNumerics;
}

void Finish(const Flags& f, const Lab& lab, const fs::path& cache, RunOutcome* outcome) {
  Results& results = outcome->results;
  results.provenance["commit"] = BuildCommit();
  results.provenance["dirty"] = BuildDirty();
  const std::string markdown = RenderTable(results);
  const Json json = ResultsToJson(results);
  const fs::path file =
      f.out.empty() ? cache / "results" /
                          fmt::format("{}-{}.json", lab.experiment.name, lab.experiment.profile)
                    : UserPath(f.out);
  WriteResults(results, markdown, file);
  Print(f.format == "json" ? json.dump(1) + "\n" : markdown);
  LogInfo(fmt::format("results: {}", file.string()));
  const auto failed = std::count_if(results.records.begin(), results.records.end(),
                                    [](const Record& r) { return r.status == "error"; });
  const bool good = CheckAgainstGolden(f, lab, json);
  if (failed > 0) {
    throw Error(
        fmt::format("{} of {} records have no number because something failed; the table's "
                    "footnotes say what. What worked is stored: run again to try the rest.",
                    failed, results.records.size()));
  }
  if (!good) throw Error("the golden check failed.");
}

void RefuseBadRegistrations() {
  const std::vector<std::string>& problems = RegistrationProblems();
  if (problems.empty()) return;
  throw UsageError(fmt::format("{}", fmt::join(problems, "\n")));
}

void RunTable(Flags f) {
  RefuseBadRegistrations();
  if (f.list) return Print(ListPlugins());
  CheckFlags(f);
  f.choices.methods = Names(f.methods, "--methods");
  f.choices.attacks = Names(f.attacks, "--attacks");
  f.choices.concepts = Names(f.concepts, "--concepts");
  f.choices.metrics = Names(f.metrics, "--metrics");
  const Experiment experiment = LoadExperiment(ExperimentFile(f), f.choices);
  RunOptions options;
  options.shard = ParseShard(f.shard);
  options.stage = f.stage;
  // Keys do not name the code's commit, so only a fresh computation can be held against a golden.
  options.force = f.force || !f.check.empty() || f.update_golden;
  options.workers = f.workers > 0
                        ? f.workers
                        : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (experiment.golden) {
    PinGolden();
  } else {
    UseOneThreadPerWorker();
  }
  const fs::path cache = CacheFolder(f);
  Store store(cache / "store");
  const std::unique_ptr<Lab> lab =
      OpenLab(experiment, {ModelsFolder(f, experiment.backbone), DataFile("datasets/concepts")});
  const Grid grid(*lab);
  if (f.explain) LogLines(ExplainMissing(*lab, grid, store));
  if (f.dry_run) return Print(DescribePlan(*lab, grid, store, options.workers));
  RunOutcome outcome = RunExperiment(*lab, grid, store, options);
  if (outcome.finished) return Finish(f, *lab, cache, &outcome);
  if (options.shard.count > 1 && options.stage == "score") {
    LogInfo(fmt::format("shard {}/{} is done. When all are, run once more without --shard.",
                        options.shard.index, options.shard.count));
  } else {
    LogInfo(fmt::format("stopped after stage {}.", options.stage));
  }
  if (outcome.failures > 0) {
    throw Error(fmt::format("{} units of work failed.", outcome.failures));
  }
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::InstallInterruptHandlers();
  CLI::App app(
      "Runs an experiment and prints its table. What is computed is stored: the same "
      "command again resumes.");
  excise::Flags flags;
  excise::AddFlags(app, &flags);
  return excise::RunProgram(app, argc, argv, [&] { excise::RunTable(flags); });
}
