// Chooses the plug-ins' defaults for the embedded backbone, by the one rule of tune.h.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <thread>

#include "core/data_file.h"
#include "core/digest_cache.h"
#include "core/error.h"
#include "core/files.h"
#include "core/program.h"
#include "core/progress.h"
#include "core/version.h"
#include "experiments/check/tune.h"
#include "experiments/flags.h"
#include "experiments/lab/lab.h"
#include "experiments/run/grid.h"
#include "experiments/run/offers.h"
#include "experiments/run/runner.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

struct Options {
  Flags flags;
  std::string out = "results/quality/tuning.json";
  int64_t trials = 8;
  uint64_t seed = 1;
};

RunScores Run(const Experiment& experiment, const Options& options, Store* store) {
  const std::unique_ptr<Lab> lab =
      OpenLab(experiment,
              {ModelsFolder(options.flags, experiment.backbone), DataFile("datasets/concepts")});
  RunOptions run;
  run.workers = options.flags.workers;
  LearnOffers(lab.get(), *store, run.workers);
  const RunOutcome outcome = RunExperiment(*lab, Grid(*lab), *store, run);
  RunScores scores;
  for (const Record& record : outcome.results.records) {
    if (record.subject != kAllConcepts || record.attack == kUnion) continue;
    const bool asked = record.attack == lab->attacks.back().name;
    if (!asked) continue;
    if (record.status == "ok" && MissingOf(record) == 0) {
      scores.by_method[record.method][record.metric] = record.score;
      if (record.metric == "cost") {
        // One removal, in U-Net evaluations; a gradient step is about two more.
        const auto steps = record.score.parts.find("gradient_steps");
        if (steps != record.score.parts.end()) {
          scores.by_method[record.method][record.metric].value += 2 * steps->second;
        }
      }
    } else {
      scores.problem = fmt::format("{}: {}", RecordName(record), record.reason);
    }
  }
  return scores;
}

// Results belong to the sources.
std::filesystem::path OutFile(const Options& options) {
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace != nullptr && options.out == Options().out) {
    return std::filesystem::path(workspace) / options.out;
  }
  return UserPath(options.out);
}

void Tune(Options options) {
  if (options.trials < 1) throw UsageError("--trials: at least 1.");
  if (options.flags.workers < 0) throw UsageError("--workers: 1 or more.");
  if (options.flags.workers == 0) {
    options.flags.workers = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  InstallInterruptHandlers();
  UseOneThreadPerWorker();
  const Experiment experiment =
      LoadExperiment(ExperimentFile(options.flags), options.flags.choices);
  if (experiment.prompts.split != "select") {
    throw UsageError(fmt::format(
        "--profile={}: reads the split '{}'. Tuning must not see what tables are measured on; "
        "name a profile with \"prompts\": {{\"split\": \"select\"}}.",
        experiment.profile, experiment.prompts.split));
  }
  UseDigestsIn(CacheFolder(options.flags));
  Store store(CacheFolder(options.flags) / "store");
  const std::vector<Tuning> tunings =
      TuneAll(experiment, static_cast<size_t>(options.trials), options.seed,
              [&](const Experiment& trial) { return Run(trial, options, &store); });
  const Json log = {{"schema", 1},
                    {"rule", kTuningRule},
                    {"trials", options.trials},
                    {"seed", options.seed},
                    {"experiment", ExperimentToJson(experiment)},
                    {"numerics", Numerics()},
                    {"plugins", TuningsToJson(tunings)},
                    {"provenance", {{"commit", BuildCommit()}, {"host_cpu", HostCpu()}}}};
  const std::filesystem::path file = OutFile(options);
  const std::string text = RenderTunings(tunings), json = log.dump(1) + "\n";
  WriteFilesTogether({{std::filesystem::path(file).replace_extension(".md"), text}, {file, json}});
  LogInfo(fmt::format("log: {}", file.string()));
  PrintOut(text);
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::Options options;
  options.flags.bundled = "experiments/table1.json";
  options.flags.choices.profile = "tune";
  CLI::App app(
      "Chooses the defaults of methods and attacks for the embedded backbone: the same number of "
      "trials for each, on the split select.");
  app.add_option("--experiment", options.flags.experiment, "experiment (default: table1)");
  app.add_option("--profile", options.flags.choices.profile, "its profile")->capture_default_str();
  app.add_option("--set", options.flags.choices.settings, "changes a setting (repeatable)")
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--limit", options.flags.choices.limit,
                 "at most that many prompts a concept and group");
  app.add_option("--trials", options.trials, "settings tried, the default's included")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "of the settings drawn")->capture_default_str();
  app.add_option("--models", options.flags.models, "folder that holds the backbone's folder");
  app.add_option("--cache", options.flags.cache, "folder of the store (default: ~/.cache/excise)");
  app.add_option("--workers", options.flags.workers, "threads (default: all cores)");
  app.add_option("--out", options.out, "log; a Markdown file is written beside it")
      ->capture_default_str();
  return excise::RunProgram(app, argc, argv, [&] {
    excise::RefuseEmptyValues(argc, argv);
    excise::Tune(options);
  });
}
