// One table: runs an experiment and prints its table.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <thread>

#include "core/digest_cache.h"
#include "core/empty_store.h"
#include "core/error.h"
#include "core/files.h"
#include "core/plural.h"
#include "core/program.h"
#include "core/progress.h"
#include "core/registry.h"
#include "core/stopwatch.h"
#include "core/text.h"
#include "core/version.h"
#include "experiments/check/committed.h"
#include "experiments/check/golden.h"
#include "experiments/check/published.h"
#include "experiments/check/published_page.h"
#include "experiments/check/reference.h"
#include "experiments/flags.h"
#include "experiments/formats/results_file.h"
#include "experiments/lab/lab.h"
#include "experiments/listing.h"
#include "experiments/page/page_figures.h"
#include "experiments/render_as.h"
#include "experiments/results/read_results.h"
#include "experiments/run/export_found.h"
#include "experiments/run/export_models.h"
#include "experiments/run/export_prompts.h"
#include "experiments/run/grid.h"
#include "experiments/run/offers.h"
#include "experiments/run/plan.h"
#include "experiments/run/reuse.h"
#include "experiments/run/runner.h"
#include "experiments/tables/table.h"
#include "models/tensors/compute.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

void LogLines(const std::string& text) {
  for (const std::string& line : Lines(text)) LogInfo(line);
}

std::string TierFile(const char* tier, const Lab& lab) {
  return "checks/" + std::string(tier) + "/" + lab.experiment.name + ".json";
}

// What was asked beside the table. Returns whether numbers are as they should be.
bool CheckNumbers(const Flags& f, const Lab& lab, const Results& run) {
  const Json results = ResultsToJson(run);
  if (f.update_golden) {
    const fs::path file = CommittedFile(TierFile("golden", lab), /*write=*/true);
    CheckReport changes;
    changes.lines = UpdateGolden(results, HostCpu(), file);
    LogLines(fmt::format("golden: wrote {}{}{}", file.string(),
                         changes.lines.empty() ? "; the same content" : "", changes.Lines()));
  }
  if (f.check == "golden") {
    const Golden golden = ReadGolden(CommittedFile(TierFile("golden", lab)));
    const GoldenCheck check = CompareWithGolden(results, golden, !f.methods.empty());
    LogLines(GoldenSummary(check));
    return check.report.Passed();
  }
  if (f.check == "reference") {
    const std::vector<ReferenceOutcome> outcomes =
        CompareWithReference(run, ReadReference(CommittedFile(TierFile("reference", lab))));
    LogLines(RenderReference(outcomes));
    return std::none_of(outcomes.begin(), outcomes.end(),
                        [](const ReferenceOutcome& o) { return o.verdict == "differs"; });
  }
  return true;
}

// The README's table came from the committed run: who sees other numbers here is told why.
void TellCommitted(const Experiment& experiment, const Json& results) {
  const std::string name = CommittedName(experiment.name, experiment.profile);
  std::string line;
  try {
    const fs::path file = CommittedFile(name);
    std::error_code ignored;
    if (!fs::exists(file, ignored)) return;
    line = AgainstCommitted(results, ReadResults(file), "results/" + name);
  } catch (const Error&) {
    return;  // no committed run, or none that this version reads
  }
  if (!line.empty()) LogInfo(line);
}

// What is committed of a table: all of it where there is such a run, else the default one.
Results CommittedResults(const std::string& table) {
  fs::path file;
  std::error_code ignored;
  try {
    file = CommittedFile(CommittedName(table, "full"));
  } catch (const Error&) {  // not among the program's data
  }
  if (file.empty() || !fs::exists(file, ignored)) {
    file = CommittedFile(CommittedName(table, "default"));
  }
  return ResultsFromJson(ReadResults(file), file.string());
}

// Claims of papers against what is committed of all tables, or against --results for this one;
// nothing is computed anew.
void CheckPublished(const Flags& f, const Experiment& experiment) {
  const std::vector<Claim> claims =
      LoadClaims(CommittedFile("checks/published/arithmetic.json").parent_path());
  std::map<std::string, Results> results;
  if (!f.results.empty()) {
    const fs::path file = UserPath(f.results);
    results[experiment.name] = ResultsFromJson(ReadResults(file), file.string());
  }
  for (const Claim& claim : claims) {
    if (claim.table.empty() || results.count(claim.table) > 0) continue;
    try {
      results[claim.table] = CommittedResults(claim.table);
    } catch (const Error& error) {
      LogWarning(
          fmt::format("claims about numbers of {} are not_run: {}", claim.table, error.what()));
      results[claim.table] = {};
    }
  }
  const std::vector<ClaimOutcome> outcomes =
      CheckClaims(claims, results, f.user_data.empty() ? fs::path() : UserPath(f.user_data));
  PrintOut(RenderPublished(outcomes));
  const auto failed = std::count_if(outcomes.begin(), outcomes.end(),
                                    [](const ClaimOutcome& o) { return o.Failed(); });
  if (failed > 0) throw Error(fmt::format("published claims that come out otherwise: {}.", failed));
}

// In a store of its own, so that nothing comes from another version and seeds share the attacks.
void UpdateReference(const Flags& f, const Experiment& experiment, const Compute& compute,
                     const RunOptions& options) {
  EmptyStore fresh(CacheFolder(f));
  const Json reference = MakeReference(experiment, FoldersOf(f, experiment.backbone), compute,
                                       fresh.store(), options, f.update_reference);
  const fs::path file =
      CommittedFile("checks/reference/" + experiment.name + ".json", /*write=*/true);
  CreateFolders(file.parent_path());
  WriteFileAtomically(file, reference.dump(1) + "\n");
  LogInfo(fmt::format("reference: wrote {}", file.string()));
}

using SelectedBy = std::map<std::string, std::string>;  // see SelectionOf

// Where results go, and on stderr why there, where somebody might look elsewhere.
fs::path ResultsFile(const Flags& f, const Experiment& experiment, const SelectedBy& selection) {
  if (!f.out.empty()) return UserPath(f.out);
  if (!selection.empty()) {
    std::vector<std::string> flags;
    for (const auto& [flag, value] : selection) flags.push_back(flag);
    LogInfo(
        fmt::format("results of this selection ({}) have a name of their own; {} is the whole "
                    "run's",
                    fmt::join(flags, ", "), ResultsName(experiment, {})));
  }
  return CacheFolder(f) / "results" / ResultsName(experiment, selection);
}

void WritePlots(const Results& results, const fs::path& file) {
  const std::map<std::string, std::string> figures = PlotFiles(results);
  CreateFolders(fs::absolute(file).parent_path());
  for (const auto& [name, figure] : figures) {
    const fs::path plot = PlotPath(file, name);
    WriteFileAtomically(plot, figure);
    LogInfo(fmt::format("plot: {}", plot.string()));
  }
}

void Finish(const Flags& f, const SelectedBy& selection, const Lab& lab, const Grid& grid,
            Store& store, const Stopwatch& watch, RunOutcome* outcome) {
  Results& results = outcome->results;
  results.provenance["commit"] = BuildCommit();
  results.provenance["dirty"] = BuildDirty();
  results.provenance["arguments"] = f.arguments;
  const Document document = DescribeTable(results);
  const Exhibits exhibits = GatherExhibits(lab, grid, store, results.rows);
  std::map<std::string, std::string> documents;
  for (const std::string format : {"md", "tex", "csv", "html"}) {
    documents["." + format] = RenderAs(format, document, results, exhibits);
  }
  const fs::path file = ResultsFile(f, lab.experiment, selection);
  WriteResults(results, documents, file);
  PrintAs(f.format, RenderAs(f.format, document, results, exhibits));
  TellCommitted(lab.experiment, ResultsToJson(results));
  LogInfo(fmt::format("results: {}", file.string()));
  LogInfo(CostLine(watch.Seconds()));
  if (!f.plot.empty()) WritePlots(results, UserPath(f.plot));
  const bool good = CheckNumbers(f, lab, results);
  const std::string problems = ProblemsOf(results);
  if (!problems.empty()) throw Error(problems);
  if (outcome->failures > 0) {
    throw Error(fmt::format(
        "{} units of work failed, though every record has its number; the warnings above say what.",
        outcome->failures));
  }
  if (!good) throw Error(fmt::format("the {} check failed.", f.check));
}

void RefuseBadRegistrations() {
  const std::vector<std::string>& problems = RegistrationProblems();
  if (problems.empty()) return;
  throw UsageError(fmt::format("{}", fmt::join(problems, "\n  ")));
}

// What is committed is of whole tables.
void RequireCommittable(const Flags& f, const Experiment& experiment, const SelectedBy& selection) {
  if (!f.update_golden && f.update_reference == 0) return;
  const char* flag = f.update_golden ? "--update_golden" : "--update_reference";
  if (!selection.empty()) {
    throw UsageError(
        fmt::format("{} writes what is committed of the whole table, and {} chooses "
                    "another run. Leave it out.",
                    flag, selection.begin()->first));
  }
  if (f.update_golden && !experiment.golden) {
    throw UsageError(
        fmt::format("--update_golden: profile '{}' is not compared bit for bit. Did "
                    "you mean --profile=smoke?",
                    experiment.profile));
  }
}

// Sets what holds for the whole process, before the first operation.
Compute PrepareCompute(const Flags& f, const Experiment& experiment) {
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
  return compute;
}

RunOptions OptionsOf(const Flags& f, const Shard& shard) {
  RunOptions options;
  options.shard = shard;
  options.stage = f.stage;
  // Keys do not name the code's commit, so only a fresh computation can be held against a golden.
  options.model_memory = f.model_memory << 20;
  options.force = f.force || !f.check.empty() || f.update_golden;
  options.workers = f.workers > 0
                        ? f.workers
                        : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return options;
}

// Leaves out of the grid what the files of --reuse have.
void TakeReused(const Flags& f, Lab* lab, std::optional<Grid>* grid, Reused* reused,
                RunOptions* options) {
  if (f.reuse.empty()) return;
  std::vector<fs::path> files;
  for (const std::string& name : f.reuse) files.push_back(UserPath(name));
  *reused = ReuseResults(lab, files);
  grid->emplace(*lab, [&](const Cell& cell) { return !reused->Has(cell); });
  options->reused = reused;
}

// Says how long the run will take, before it begins.
void TellTime(const Lab& lab, const Grid& grid, const Store& store, RunOptions* options) {
  const Plan plan =
      MakePlan(lab, grid, [&](const Json& key) { return !options->force && store.Holds(key); });
  options->forecast = MakeForecast(plan, MeasureFor(lab, plan, *options), *options);
  LogInfo(ForecastLine(lab, options->forecast, options->workers));
}

void RunTable(Flags f) {
  const Stopwatch watch;
  RefuseBadRegistrations();
  if (!f.list.empty()) return PrintOut(List(f.list, OutputColumns()));
  const ShardChoice part = ChooseShard(f.shard);
  for (const std::string& note : part.notes) LogInfo(note);
  CheckFlags(part, &f);
  TakeProtocol(&f);
  const Experiment experiment = LoadExperiment(ExperimentFile(f), f.choices);
  if (f.check == "published") return CheckPublished(f, experiment);
  const SelectedBy selection = SelectionOf(f, experiment.backbone);
  RequireCommittable(f, experiment, selection);
  const bool looks = f.dry_run || f.explain;
  RunOptions options = OptionsOf(f, part.shard);
  UseDigestsIn(CacheFolder(f), /*remember=*/!looks);
  if (options.force) DistrustDigests();
  const Compute compute = PrepareCompute(f, experiment);
  if (f.update_reference != 0) return UpdateReference(f, experiment, compute, options);
  Store store(CacheFolder(f) / "store", looks ? StoreUse::kLook : StoreUse::kWrite);
  const std::unique_ptr<Lab> lab = OpenLab(experiment, FoldersOf(f, experiment.backbone), compute);
  ReadStoredOffers(lab.get(), store);
  std::optional<Grid> grid(std::in_place, *lab);
  Reused reused;
  TakeReused(f, lab.get(), &grid, &reused, &options);
  if (f.explain) PrintOut(ExplainMissing(*lab, *grid, store));
  if (f.dry_run) {
    const auto is_stored = [&](const Json& key) { return !options.force && store.Find(key); };
    PrintOut(DescribePlan(*lab, *grid, MakePlan(*lab, *grid, is_stored), options));
  }
  if (looks) return;
  const std::string found = FoundFile(f);
  if (!f.export_prompts.empty() && found.empty()) {
    return ExportPrompts(*lab, *grid, store, options.workers, UserPath(f.export_prompts));
  }
  if (!f.export_models.empty()) {
    return ExportModels(*lab, *grid, store, options.workers, UserPath(f.export_models));
  }
  TellTime(*lab, *grid, store, &options);
  if (NeedsOffers(*lab)) {
    LearnOffers(lab.get(), store, options.workers);
    grid.emplace(*lab);
    TakeReused(f, lab.get(), &grid, &reused, &options);
  }
  if (!found.empty()) {
    return ExportFound(*lab, *grid, store, options.workers, f.sensitive_texts, UserPath(found));
  }
  RunOutcome outcome = RunExperiment(*lab, *grid, store, options);
  if (outcome.finished) return Finish(f, selection, *lab, *grid, store, watch, &outcome);
  if (options.shard.count > 1 && options.stage == "score") {
    LogInfo(fmt::format("shard {}/{} is done. When all are, run once more with --shard=0/1.",
                        options.shard.index, options.shard.count));
  } else {
    LogInfo(fmt::format("stopped after stage {}.", options.stage));
  }
  LogInfo(CostLine(watch.Seconds()));
  if (outcome.failures > 0) {
    throw Error(
        fmt::format("{} failed.", Plural(outcome.failures, "unit of work", "units of work")));
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
  return excise::RunProgram(app, argc, argv, [&] {
    excise::RefuseEmptyValues(argc, argv);
    excise::RunTable(flags);
  });
}
