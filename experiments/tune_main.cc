// Chooses the plug-ins' defaults for the embedded backbone, by the one rule of tune.h.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <set>
#include <thread>

#include "core/data_file.h"
#include "core/digest_cache.h"
#include "core/error.h"
#include "core/files.h"
#include "core/plural.h"
#include "core/program.h"
#include "core/progress.h"
#include "core/text.h"
#include "core/version.h"
#include "experiments/check/tune.h"
#include "experiments/check/tuning_log.h"
#include "experiments/flags.h"
#include "experiments/lab/lab.h"
#include "experiments/run/grid.h"
#include "experiments/run/offers.h"
#include "experiments/run/plan.h"
#include "experiments/run/runner.h"
#include "experiments/tune_plot.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

struct Options {
  Flags flags;
  TuneRequest request;
  std::string out = "results/quality/tuning.json";
  bool dry_run = false;
};

// What a dry run adds up: wall seconds by plug-in. Work that several trials share counts once.
class Estimate {
 public:
  void Add(const std::string& plugin, const Lab& lab, const Store& store, const RunOptions& run) {
    std::set<std::string> planned;
    const Plan plan = MakePlan(lab, Grid(lab), [&](const Json& key) {
      const std::string digest = Store::Digest(key);
      planned.insert(digest);
      return planned_.count(digest) != 0 || store.Holds(key);
    });
    planned_.merge(planned);
    std::set<Pass> passes;
    for (const auto& [name, stage] : plan) {
      for (const Work& work : stage.missing) {
        for (const Passes& some : work) passes.insert(some.pass);
      }
    }
    for (const auto& [pass, time] : times_.times) passes.erase(pass);
    if (!passes.empty()) times_.times.merge(MeasurePasses(lab, passes, run.workers, 1).times);
    seconds_[plugin] += MakeForecast(plan, times_, run).Total();
  }

  std::string Render(const std::vector<Tuning>& tunings, int workers) const {
    std::string text = fmt::format("{:<8} {:<24} {:>6}  {}\n", "kind", "plug-in", "trials", "time");
    double all = 0;
    for (const Tuning& tuning : tunings) {
      const auto found = seconds_.find(tuning.name);
      const double seconds = found == seconds_.end() ? 0 : found->second;
      all += seconds;
      text += fmt::format("{:<8} {:<24} {:>6}  {}\n", tuning.kind, tuning.name,
                          tuning.trials.size(), seconds == 0 ? "done" : InWords(seconds));
    }
    return text +
           fmt::format("\nabout {} here, with {}\n", InWords(all), Plural(workers, "worker"));
  }

 private:
  std::set<std::string> planned_;
  PassTimes times_;
  std::map<std::string, double> seconds_;
};

std::unique_ptr<Lab> Open(const Experiment& experiment, const Options& options) {
  return OpenLab(experiment,
                 {ModelsFolder(options.flags, experiment.backbone), DataFile("datasets/concepts")});
}

RunOptions RunOptionsOf(const Options& options) {
  RunOptions run;
  run.workers = options.flags.workers;
  return run;
}

RunScores Run(const Experiment& experiment, const Options& options, Store* store) {
  const std::unique_ptr<Lab> lab = Open(experiment, options);
  const RunOptions run = RunOptionsOf(options);
  LearnOffers(lab.get(), *store, run.workers);
  const RunOutcome outcome = RunExperiment(*lab, Grid(*lab), *store, run);
  RunScores scores;
  for (const Record& record : outcome.results.records) {
    const bool asked = IsOneOf(record.metric, experiment.metrics.only) &&
                       record.subject != kAllConcepts && record.attack != kUnion;
    // What a method does not claim, or an attack finds nothing to adapt to, is no number.
    const bool apart = record.status == "not_applicable" || record.status == "non_adaptive_only";
    if (!asked || apart) continue;
    if (record.status == "ok" && MissingOf(record) == 0) {
      scores.cells[{record.method, record.attack, record.metric}].push_back(record.score);
    } else {
      scores.problem = fmt::format("{}: {}", RecordName(record), record.reason);
    }
  }
  return scores;
}

// How many times the prompts of the concepts that a method claims must be taken, so that it is
// measured on as many as a method that claims all.
std::map<std::string, int64_t> MorePrompts(const Options& options) {
  Experiment experiment = options.request.experiment;
  experiment.methods.only = TunedMethods(experiment);
  if (experiment.methods.only.empty()) return {};
  experiment.attacks.only = {kUnmodified};
  const std::unique_ptr<Lab> lab = Open(experiment, options);
  std::map<std::string, int64_t> more;
  for (size_t method = 0; method < lab->methods.size(); ++method) {
    const auto concepts = static_cast<int64_t>(lab->concepts.size());
    int64_t claimed = 0;
    for (size_t subject = 0; subject < lab->concepts.size(); ++subject) {
      claimed += lab->ReasonNotClaimed(method, subject).empty() ? 1 : 0;
    }
    if (claimed == 0 || claimed == concepts) continue;
    more[lab->methods[method].name] = (concepts + claimed - 1) / claimed;
  }
  return more;
}

// Results belong to the sources.
std::filesystem::path OutFile(const Options& options) {
  const char* workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace != nullptr && options.out == Options().out) {
    return std::filesystem::path(workspace) / options.out;
  }
  return UserPath(options.out);
}

// FILE.json, with FILE.md and FILE.svg beside it.
void Write(const TuningLog& log, std::filesystem::path file) {
  const std::string json = TuningLogToJson(log).dump(1) + "\n", svg = TrialsSvg(log.tunings);
  const auto beside = [&](const char* extension) { return file.replace_extension(extension); };
  const std::string figure = svg.empty() ? "" : beside(".svg").filename().string();
  const std::string text = RenderTunings(log, figure);
  std::vector<std::pair<std::filesystem::path, std::string_view>> files = {{beside(".md"), text}};
  if (!svg.empty()) files.emplace_back(beside(".svg"), svg);
  files.emplace_back(beside(".json"), json);
  WriteFilesTogether(files);
}

void Plot(const std::filesystem::path& log, const std::filesystem::path& file) {
  const std::string svg = TrialsSvg(TuningLogFromJson(ReadJsonFile(log), log.string()).tunings);
  if (svg.empty()) {
    throw Error(
        fmt::format("{}: has no trials of methods, so there is nothing to draw. Run them "
                    "first.",
                    log.string()));
  }
  CreateFolders(std::filesystem::absolute(file).parent_path());
  WriteFileAtomically(file, svg);
  LogInfo(fmt::format("plot: {}", file.string()));
}

void CheckOptions(Options* options) {
  TuneRequest& request = options->request;
  if (request.trials < 1) throw UsageError("--trials: at least 1.");
  if (request.attack_prompts < 1) throw UsageError("--attack_prompts: at least 1.");
  for (const std::string& name : request.attack_concepts) {
    RequireOneOf("--attack_concepts", name, request.experiment.concepts);
  }
  if (options->flags.workers < 0) throw UsageError("--workers: 1 or more.");
  if (options->flags.workers == 0) {
    options->flags.workers = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  const PromptCounts& prompts = request.experiment.prompts;
  if (prompts.split != "select") {
    throw UsageError(fmt::format(
        "--profile={}: reads the split '{}'. Tuning must not see what tables are measured on; "
        "name a profile with \"prompts\": {{\"split\": \"select\"}}.",
        request.experiment.profile, prompts.split));
  }
}

void Tune(Options options) {
  InstallInterruptHandlers();
  UseOneThreadPerWorker();
  TuneRequest& request = options.request;
  request.experiment = LoadExperiment(ExperimentFile(options.flags), options.flags.choices);
  CheckOptions(&options);
  const std::filesystem::path file = OutFile(options);
  if (!options.flags.plot.empty()) return Plot(file, UserPath(options.flags.plot));
  request.provenance = {{"commit", BuildCommit()},
                        {"host_cpu", HostCpu()},
                        {"workers", options.flags.workers},
                        {"numerics", Numerics()}};
  TuningLog log{SetupOf(request), {}};
  log.tunings = TuningsToGoOnWith(file, log.setup);
  UseDigestsIn(CacheFolder(options.flags), /*remember=*/!options.dry_run);
  request.more_prompts = MorePrompts(options);
  Store store(CacheFolder(options.flags) / "store",
              options.dry_run ? StoreUse::kLook : StoreUse::kWrite);
  if (options.dry_run) {
    Estimate estimate;
    const auto plan = [&](const std::string& plugin, const Experiment& trial) {
      const std::unique_ptr<Lab> lab = Open(trial, options);
      ReadStoredOffers(lab.get(), store);
      estimate.Add(plugin, *lab, store, RunOptionsOf(options));
      RunScores scores;
      scores.planned = true;
      return scores;
    };
    const auto tunings = TuneAll(request, log.tunings, plan, [](const auto&) {});
    return PrintOut(estimate.Render(tunings, options.flags.workers));
  }
  CreateFolders(std::filesystem::absolute(file).parent_path());
  const auto save = [&](const std::vector<Tuning>& tunings) { Write({log.setup, tunings}, file); };
  log.tunings = TuneAll(
      request, log.tunings,
      [&](const std::string&, const Experiment& trial) { return Run(trial, options, &store); },
      save);
  LogInfo(fmt::format("log: {}", file.string()));
  PrintOut(RenderTunings(log, ""));
  for (const Tuning& tuning : log.tunings) {
    if (tuning.complete) continue;
    throw Error(fmt::format("{} {}: nothing was chosen, for every trial failed; the log says why.",
                            tuning.kind, tuning.name));
  }
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::Options options;
  options.flags.bundled = "experiments/table1.json";
  options.flags.choices.profile = "tune";
  CLI::App app(
      "Chooses the defaults of methods and attacks for the embedded backbone: the same number of "
      "trials for each, on the split select. Every trial is kept at once: the same command again "
      "goes on.");
  app.add_option("--experiment", options.flags.experiment, "experiment (default: table1)");
  app.add_option("--profile", options.flags.choices.profile, "its profile")->capture_default_str();
  app.add_option("--methods", options.flags.choices.methods, "only these, with commas between")
      ->delimiter(',');
  app.add_option("--attacks", options.flags.choices.attacks, "only these; none: methods alone")
      ->delimiter(',');
  app.add_option("--set", options.flags.choices.settings, "changes a setting (repeatable)")
      ->allow_extra_args(false)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--limit", options.flags.choices.limit,
                 "at most that many prompts a concept and group");
  app.add_option("--trials", options.request.trials, "settings tried of every plug-in")
      ->capture_default_str();
  app.add_option("--seed", options.request.seed, "of the settings drawn")->capture_default_str();
  app.add_option("--attack_prompts", options.request.attack_prompts,
                 "target prompts a concept in the trials of attacks")
      ->capture_default_str();
  app.add_option("--attack_concepts", options.request.attack_concepts,
                 "concepts of the trials of attacks, with commas between (default: all)")
      ->delimiter(',');
  app.add_option("--models", options.flags.models, "folder that holds the backbone's folder");
  app.add_option("--cache", options.flags.cache, "folder of the store (default: ~/.cache/excise)");
  app.add_option("--workers", options.flags.workers, "threads (default: all cores)");
  app.add_option("--out", options.out,
                 "log of all trials, which a run goes on with; text and figure are written beside")
      ->capture_default_str();
  app.add_flag("--dry_run", options.dry_run, "says how long it would take, and runs nothing");
  app.add_option("--plot", options.flags.plot,
                 "a file: writes the figure of the log (--out) there as SVG, and runs nothing");
  return excise::RunProgram(app, argc, argv, [&] {
    excise::RefuseEmptyValues(argc, argv);
    excise::Tune(options);
  });
}
