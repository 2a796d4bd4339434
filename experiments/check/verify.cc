#include "experiments/check/verify.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/digest_cache.h"
#include "core/empty_store.h"
#include "core/error.h"
#include "core/escape.h"
#include "core/plural.h"
#include "core/random.h"
#include "core/text.h"
#include "experiments/check/check.h"
#include "experiments/check/check_replay.h"
#include "experiments/check/recheck.h"
#include "experiments/formats/results_file.h"
#include "experiments/results/numerics_claim.h"
#include "experiments/results/read_results.h"
#include "experiments/results/rounding.h"
#include "experiments/run/grid.h"
#include "experiments/run/offers.h"
#include "experiments/run/report.h"
#include "experiments/run/runner.h"
#include "models/tensors/compute.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

// Records over one metric, method and attack are computed together; those of the worst case follow
// from all attacks, and recovery from the rates of its method and of the reference rows.
struct CellName {
  std::string metric, method, attack;
  bool operator<(const CellName& other) const {
    return std::tie(metric, method, attack) < std::tie(other.metric, other.method, other.attack);
  }
};

CellName CellOf(const Json& record) {
  return {record.at("metric"), record.at("method"), record.at("attack")};
}

// The cells that the records `names` of the results are computed from.
std::set<CellName> CellsOf(const Json& results, const std::vector<std::string>& names) {
  const Json& records = results.at("records");
  const std::set<std::string> chosen(names.begin(), names.end());
  std::set<CellName> cells;
  for (const Json& record : records) {
    if (chosen.count(RecordNameOf(record)) == 0) continue;
    cells.insert(CellOf(record));
    const bool recovery = record.at("metric") == kRecovery;
    if (record.at("attack") != kUnion && !recovery) continue;
    std::vector<std::string> methods = {record.at("method")};
    if (recovery) {
      for (const Json& row : results.at("experiment").at("reference_rows")) methods.push_back(row);
    }
    const Json& metric = recovery ? record.at("metric_params").at("of") : record.at("metric");
    for (const Json& member : records) {
      if (member.at("metric") == metric &&
          IsOneOf(member.at("method").get<std::string>(), methods)) {
        cells.insert(CellOf(member));
      }
    }
  }
  return cells;
}

std::vector<std::string> VersionProblems(const Json& records, const Lab& lab) {
  std::map<std::string, int> here;
  for (const auto& entry : lab.methods) here["method " + entry.name] = entry.plugin->version();
  for (const auto& entry : lab.attacks) here["attack " + entry.name] = entry.plugin->version();
  for (const auto& entry : lab.metrics) here["metric " + entry.name] = entry.plugin->version();
  std::set<std::string> problems;
  for (const Json& record : records) {
    for (const std::string kind : {"method", "attack", "metric"}) {
      const std::string name = record.at(kind);
      const auto found = here.find(kind + " " + name);
      const int there = record.at(kind + "_version");
      if (name == kUnion || name == kRecovery) continue;
      if (found == here.end()) {
        problems.insert(fmt::format(
            "{} {}: takes no part here; pictures made elsewhere need --images=DIR", kind, name));
      } else if (found->second != there) {
        problems.insert(fmt::format("{}: version {} made the file, this program has version {}",
                                    found->first, there, found->second));
      }
    }
  }
  return {problems.begin(), problems.end()};
}

std::string Sha(const Json& inputs, const char* model) {
  if (!inputs.contains(model)) return "none";
  return inputs.at(model).at("sha").get<std::string>().substr(0, 8);
}

// A line of the report. Whatever a file says in it stays on it and is shown, not obeyed.
void Say(const std::string& line, Verification* verification) {
  verification->report += Escape(line, Format::kTerminal) + "\n";
}

void SayAll(const std::string& heading, const std::vector<std::string>& lines,
            Verification* verification) {
  Say(heading, verification);
  CheckReport report;
  report.lines = lines;
  verification->report += report.Lines().substr(1) + "\n";
}

void SayHeading(const Json& results, const fs::path& file, size_t rows,
                Verification* verification) {
  const Json& experiment = results.at("experiment");
  const Json& provenance = results.at("provenance");
  const Json& inputs = results.at("inputs");
  Say(fmt::format("{}: {}, profile {}, {}, {}; commit {}{}, {}", file.string(),
                  experiment.at("name").get<std::string>(),
                  experiment.at("profile").get<std::string>(),
                  Plural(results.at("records").size(), "record"), Plural(rows, "row"),
                  provenance.at("commit").get<std::string>(),
                  provenance.at("dirty").get<bool>() ? " with changes" : "",
                  provenance.at("host_cpu").get<std::string>()),
      verification);
  Say(fmt::format("inputs: backbone {} {}, judge {}, reference CLIP {}, surrogate {}, {}, "
                  "dataset {} version {}",
                  experiment.at("backbone").get<std::string>(), Sha(inputs, "backbone"),
                  Sha(inputs, "judge"), Sha(inputs, "reference_clip"), Sha(inputs, "surrogate"),
                  Plural(inputs.at("concepts").size(), "concept"),
                  inputs.at("dataset").at("name").get<std::string>(),
                  inputs.at("dataset").at("version").get<int>()),
      verification);
}

// "float32" of results is "fp32" of the command line.
std::string DtypeFlag(const Json& results) {
  const std::string name = results.at("inputs").at("numerics").at("dtype");
  return name == "bfloat16" ? "bf16" : name == "float16" ? "fp16" : "fp32";
}

std::unique_ptr<Lab> OpenLabOf(const Experiment& experiment, const VerifyRequest& request,
                               const Json& results) {
  const Compute compute = ParseCompute(request.device, DtypeFlag(results));
  try {
    return OpenLab(experiment, request.folders(experiment.backbone), compute);
  } catch (const UsageError& error) {
    // A name or parameter that this program lacks is the file's, not the command line's.
    throw Error(fmt::format("{} cannot be replayed by this program: {}", request.file.string(),
                            error.what()));
  }
}

// What a reader may believe after this, and what not.
void SayVerified(const ReplayCheck& check, const Results& read, const fs::path& file,
                 Verification* verification) {
  verification->verified = true;
  std::string unread = "title and caveat, provenance (commit, CPU, arguments, times), cost";
  if (check.same_numerics) {
    Say("verified: every byte is the same.", verification);
  } else {
    Say(fmt::format("verified on other numerics: this machine computes with other instructions, "
                    "every value is within its tolerance, {} of {} rows came out otherwise.",
                    check.otherwise, check.rows),
        verification);
    unread += "; parts and lineage of records, artifact of rows";
  }
  Say("not verified: " + unread + ".", verification);
  const std::vector<std::string> documents = UnverifiedDocuments(read, file);
  if (!documents.empty()) SayAll("not verified, beside it:", documents, verification);
}

// Computes the cells anew and adds to the report what the file has otherwise.
void Replay(const VerifyRequest& request, Lab* opened, const Json& results,
            const std::vector<Json>& rows, const std::set<CellName>& cells,
            Verification* verification) {
  const Lab& lab = *opened;
  const Results read = ResultsFromJson(results, request.file.string());
  const auto chosen = [&](const Json& record) { return cells.count(CellOf(record)) != 0; };
  const auto keep = [&](const Cell& cell) {
    return cells.count({lab.metrics[cell.metric].name, lab.methods[cell.method].name,
                        lab.attacks[cell.attack].name}) != 0;
  };
  const Json& records = results.at("records");
  const bool whole = std::all_of(records.begin(), records.end(), chosen);
  EmptyStore fresh(request.scratch);
  LearnOffers(opened, fresh.store(), request.workers);
  const Grid grid(lab, whole ? std::function<bool(const Cell&)>() : keep);
  RunOptions options;
  options.workers = request.workers;
  const Results replayed = RunExperiment(lab, grid, fresh.store(), options).results;
  const ReplayCheck check = CheckReplay(results, rows, read, lab, replayed, chosen);
  Say(fmt::format("replayed: {} of {} records, {} of {} rows", check.records, records.size(),
                  check.rows, rows.size()),
      verification);
  if (!check.same_numerics) Say("tolerance: " + RoundingInWords() + ".", verification);
  if (check.problems.empty()) return SayVerified(check, read, request.file, verification);
  SayAll(fmt::format("DIFFERS in {} places (the file's value first):", check.problems.size()),
         check.problems, verification);
}

// Whether the file was computed from what is here: else it is told what is not, and replaying says
// nothing.
bool CanReplay(const Json& results, const Lab& lab, bool narrowed, Verification* verification) {
  std::vector<std::string> problems = InputDifferences(results.at("inputs"), DescribeInputs(lab));
  const std::vector<std::string> versions = VersionProblems(results.at("records"), lab);
  problems.insert(problems.end(), versions.begin(), versions.end());
  if (!problems.empty()) {
    SayAll("OTHER INPUTS (the file's first); nothing was replayed, for it would say nothing:",
           problems, verification);
    return false;
  }
  const Json& numerics = results.at("inputs").at("numerics");
  if (numerics == lab.numerics) return true;
  const bool alike = numerics.at("fingerprint") == lab.numerics.at("fingerprint");
  const std::string doubt =
      alike ? "" : NumericsDoubt(results, lab.numerics, narrowed ? "" : HostCpu());
  if (!doubt.empty()) {
    SayAll("FALSE NUMERICS; nothing was replayed, for the file cannot be what it says:", {doubt},
           verification);
    return false;
  }
  Say(fmt::format("other numerics: computed on {}; here on {}",
                  NumericsInWords(numerics, results.at("provenance").at("host_cpu")),
                  NumericsInWords(lab.numerics, HostCpu())),
      verification);
  return true;
}

}  // namespace

std::vector<std::string> ChooseRecords(const Json& results, const VerifyRequest& request) {
  std::vector<std::string> names;
  for (const Json& record : results.at("records")) names.push_back(RecordNameOf(record));
  for (const std::string& asked : request.records) {
    if (IsOneOf(asked, names)) continue;
    throw UsageError(fmt::format(
        "--record='{}': the file has no such record.{} A record is named method / concept / attack "
        "/ metric, as {}.",
        asked, DidYouMean(asked, names),
        names.empty() ? "none is in this file" : "'" + names.front() + "'"));
  }
  if (!request.records.empty()) return request.records;
  if (request.sample <= 0 || request.sample >= static_cast<int64_t>(names.size())) return names;
  Philox rng({request.seed, "experiments/verify", 0, Stream::kOrder, 0});
  std::vector<int64_t> order = rng.Permutation(static_cast<int64_t>(names.size()));
  order.resize(static_cast<size_t>(request.sample));
  std::sort(order.begin(), order.end());
  std::vector<std::string> chosen;
  for (const int64_t i : order) chosen.push_back(names[static_cast<size_t>(i)]);
  return chosen;
}

namespace {

Verification VerifyFile(const VerifyRequest& request) {
  const Json results = ReadResults(request.file);
  const std::vector<Json> rows = ReadResultRows(request.file);
  const std::set<CellName> cells = CellsOf(results, ChooseRecords(results, request));
  const Experiment experiment = ExperimentOf(results, request.file.string(), request.settings);
  const bool narrowed = PinAsIn(results);
  DistrustDigests();
  Verification verification;
  SayHeading(results, request.file, rows.size(), &verification);
  const std::unique_ptr<Lab> lab = OpenLabOf(experiment, request, results);
  if (CanReplay(results, *lab, narrowed, &verification)) {
    Replay(request, lab.get(), results, rows, cells, &verification);
  }
  return verification;
}

}  // namespace

Verification VerifyResults(const VerifyRequest& request) {
  try {
    return VerifyFile(request);
  } catch (const Json::exception& error) {
    throw Error(fmt::format(
        "{}: a field has not the type that this version writes, so the file was edited or another "
        "version wrote it: {}",
        request.file.string(), error.what()));
  }
}

}  // namespace excise
