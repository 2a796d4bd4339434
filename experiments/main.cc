// One table: runs an experiment and prints its table.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <thread>

#include "core/error.h"
#include "core/files.h"
#include "core/progress.h"
#include "core/registry.h"
#include "core/version.h"
#include "experiments/check.h"
#include "experiments/empty_store.h"
#include "experiments/export_models.h"
#include "experiments/export_prompts.h"
#include "experiments/flags.h"
#include "experiments/grid.h"
#include "experiments/html_page.h"
#include "experiments/lab.h"
#include "experiments/plan.h"
#include "experiments/plot.h"
#include "experiments/published.h"
#include "experiments/reference.h"
#include "experiments/render.h"
#include "experiments/results_file.h"
#include "experiments/runner.h"
#include "experiments/table.h"
#include "models/compute.h"
#include "models/digest_cache.h"
#include "models/numerics.h"
#include "models/program.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

void LogLines(const std::string& text) {
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    LogInfo(text.substr(start, end - start));
    start = end + 1;
  }
}

std::string TierFile(const char* tier, const Lab& lab) {
  return std::string(tier) + "/" + lab.experiment.name + ".json";
}

// What was asked beside the table. Returns whether numbers are as they should be.
bool CheckNumbers(const Flags& f, const Lab& lab, const Json& results) {
  if (f.update_golden) {
    const fs::path file = CommittedFile(TierFile("golden", lab), /*write=*/true);
    CheckReport changes;
    changes.lines = UpdateGolden(results, HostCpu(), file);
    LogLines(fmt::format("golden: wrote {}{}{}", file.string(),
                         changes.lines.empty() ? "; the same content" : "", changes.Lines()));
  }
  if (f.check == "golden") {
    const Json golden = ReadGolden(CommittedFile(TierFile("golden", lab)));
    const CheckReport report = CompareResults(golden.at("results"), DeterministicPart(results));
    LogLines(GoldenSummary(report));
    return report.Passed();
  }
  if (f.check == "reference") {
    const std::vector<ReferenceOutcome> outcomes =
        CompareWithReference(results, ReadReference(CommittedFile(TierFile("reference", lab))));
    LogLines(RenderReference(outcomes));
    return std::none_of(outcomes.begin(), outcomes.end(),
                        [](const ReferenceOutcome& o) { return o.verdict == "differs"; });
  }
  return true;
}

// Claims of papers against what is committed; nothing is computed anew.
void CheckPublished(const Flags& f, const Experiment& experiment) {
  const std::vector<Claim> claims =
      LoadClaims(CommittedFile("published/arithmetic.json").parent_path(), experiment.name);
  Json results;
  try {
    results = ReadResults(CommittedFile(experiment.name + ".json"));
  } catch (const Error& error) {
    LogWarning(fmt::format("claims about numbers are not_run: {}", error.what()));
  }
  const std::vector<ClaimOutcome> outcomes =
      CheckClaims(claims, results, f.user_data.empty() ? fs::path() : UserPath(f.user_data));
  PrintOut(RenderOutcomes(outcomes));
  const auto failed = std::count_if(outcomes.begin(), outcomes.end(),
                                    [](const ClaimOutcome& o) { return o.Failed(); });
  if (failed > 0) throw Error(fmt::format("{} published claims come out otherwise.", failed));
}

// In a store of its own, so that nothing comes from another version and seeds share the attacks.
void UpdateReference(const Flags& f, const Experiment& experiment, const Compute& compute,
                     const RunOptions& options) {
  EmptyStore fresh(CacheFolder(f));
  const Json reference = MakeReference(experiment, FoldersOf(f, experiment.backbone), compute,
                                       fresh.store(), options, f.update_reference);
  const fs::path file = CommittedFile("reference/" + experiment.name + ".json", /*write=*/true);
  CreateFolders(file.parent_path());
  WriteFileAtomically(file, reference.dump(1) + "\n");
  LogInfo(fmt::format("reference: wrote {}", file.string()));
}

void Finish(const Flags& f, const Lab& lab, const Grid& grid, Store& store, const fs::path& cache,
            RunOutcome* outcome) {
  Results& results = outcome->results;
  results.provenance["commit"] = BuildCommit();
  results.provenance["dirty"] = BuildDirty();
  results.provenance["arguments"] = f.arguments;
  const Document document = DescribeTable(results);
  const std::map<std::string, std::string> documents = {
      {".md", RenderMarkdown(document)},
      {".tex", RenderLatex(document)},
      {".csv", RenderCsv(results)},
      {".html", RenderHtml(document, results, GatherExhibits(lab, grid, store, results.rows))}};
  const Json json = ResultsToJson(results);
  const fs::path file =
      f.out.empty() ? cache / "results" /
                          fmt::format("{}-{}.json", lab.experiment.name, lab.experiment.profile)
                    : UserPath(f.out);
  WriteResults(results, documents, file);
  PrintOut(f.format == "json" ? json.dump(1) + "\n" : documents.at("." + f.format));
  LogInfo(fmt::format("results: {}", file.string()));
  if (!f.plot.empty()) {
    WriteFrontPlot(results, UserPath(f.plot));
    LogInfo(fmt::format("plot: {}", UserPath(f.plot).string()));
  }
  const auto failed = std::count_if(results.records.begin(), results.records.end(),
                                    [](const Record& r) { return r.status == "error"; });
  const bool good = CheckNumbers(f, lab, json);
  if (failed > 0) {
    throw Error(
        fmt::format("{} of {} records have no number because something failed; the table's "
                    "footnotes say what. What worked is stored: run again to try the rest.",
                    failed, results.records.size()));
  }
  if (!good) throw Error(fmt::format("the {} check failed.", f.check));
}

void RefuseBadRegistrations() {
  const std::vector<std::string>& problems = RegistrationProblems();
  if (problems.empty()) return;
  throw UsageError(fmt::format("{}", fmt::join(problems, "\n")));
}

void RunTable(Flags f) {
  RefuseBadRegistrations();
  if (f.list) return PrintOut(ListPlugins());
  CheckFlags(&f);
  const Experiment experiment = LoadExperiment(ExperimentFile(f), f.choices);
  if (f.check == "published") return CheckPublished(f, experiment);
  RunOptions options;
  options.shard = ParseShard(f.shard);
  options.stage = f.stage;
  // Keys do not name the code's commit, so only a fresh computation can be held against a golden.
  options.force = f.force || !f.check.empty() || f.update_golden;
  if (options.force) DistrustDigests();
  options.workers = f.workers > 0
                        ? f.workers
                        : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const Compute compute = ParseCompute(f.device, f.dtype);
  if (experiment.golden && (!compute.device.is_cpu() || compute.dtype != at::kFloat)) {
    throw UsageError(
        fmt::format("--device={} --dtype={}: profile '{}' is compared bit for bit and computes in "
                    "fp32 on the CPU. Leave the flags out, or use another profile.",
                    f.device, f.dtype, experiment.profile));
  }
  if (experiment.golden) {
    PinGolden();
  } else {
    UseOneThreadPerWorker();
  }
  if (f.update_reference != 0) return UpdateReference(f, experiment, compute, options);
  const fs::path cache = CacheFolder(f);
  Store store(cache / "store");
  const std::unique_ptr<Lab> lab = OpenLab(experiment, FoldersOf(f, experiment.backbone), compute);
  const Grid grid(*lab);
  if (!f.export_prompts.empty()) {
    return ExportPrompts(*lab, grid, store, options.workers, UserPath(f.export_prompts));
  }
  if (!f.export_models.empty()) {
    return ExportModels(*lab, grid, store, options.workers, UserPath(f.export_models));
  }
  if (f.explain) LogLines(ExplainMissing(*lab, grid, store));
  if (f.dry_run) return PrintOut(DescribePlan(*lab, grid, store, options.workers));
  RunOutcome outcome = RunExperiment(*lab, grid, store, options);
  if (outcome.finished) return Finish(f, *lab, grid, store, cache, &outcome);
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
  flags.arguments = excise::ArgumentsOfNumbers(argc, argv);
  return excise::RunProgram(app, argc, argv, [&] { excise::RunTable(flags); });
}
