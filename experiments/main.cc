// One table: runs an experiment and prints its table.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "core/progress.h"
#include "core/registry.h"
#include "core/version.h"
#include "datasets/data_file.h"
#include "experiments/check.h"
#include "experiments/flags.h"
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
  CheckFlags(&f);
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
