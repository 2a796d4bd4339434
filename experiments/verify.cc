#include "experiments/verify.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/error.h"
#include "core/random.h"
#include "experiments/check.h"
#include "experiments/comparisons.h"
#include "experiments/empty_store.h"
#include "experiments/grid.h"
#include "experiments/report.h"
#include "experiments/results_file.h"
#include "experiments/runner.h"
#include "models/compute.h"
#include "models/digest_cache.h"
#include "models/numerics.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

// Records over one metric, method and attack are computed together; those of the worst case follow
// from all attacks.
struct CellName {
  std::string metric, method, attack;
  bool operator<(const CellName& other) const {
    return std::tie(metric, method, attack) < std::tie(other.metric, other.method, other.attack);
  }
};

CellName CellOf(const Json& record) {
  return {record.at("metric"), record.at("method"), record.at("attack")};
}

// The cells that the records `names` are computed from.
std::set<CellName> CellsOf(const Json& records, const std::vector<std::string>& names) {
  const std::set<std::string> chosen(names.begin(), names.end());
  std::set<CellName> cells;
  for (const Json& record : records) {
    if (chosen.count(RecordNameOf(record)) == 0) continue;
    cells.insert(CellOf(record));
    if (record.at("attack") != kUnion) continue;
    for (const Json& member : records) {
      if (member.at("metric") == record.at("metric") &&
          member.at("method") == record.at("method")) {
        cells.insert(CellOf(member));
      }
    }
  }
  return cells;
}

Json RecordsIn(const Json& records, const std::set<CellName>& cells) {
  Json kept = Json::array();
  for (const Json& record : records) {
    if (cells.count(CellOf(record)) != 0) kept.push_back(record);
  }
  return kept;
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
      if (name == kUnion) continue;
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

// Rows that both have, field by field; `whole`: neither may have others.
struct RowCheck {
  std::vector<std::string> lines;
  int64_t compared = 0, other_outcomes = 0;
};

RowCheck CompareRows(const std::vector<Json>& before, const std::vector<Row>& now, bool whole,
                     bool same_numerics) {
  std::map<std::string, const Json*> there;
  for (const Json& row : before) there[RowNameOf(row)] = &row;
  RowCheck check;
  for (const Row& row : now) {
    const Json replayed = RowToJson(row);
    const std::string name = RowNameOf(replayed);
    const auto found = there.find(name);
    if (found == there.end()) {
      check.lines.push_back(fmt::format("row {}: is missing in the file", name));
      continue;
    }
    ++check.compared;
    if (same_numerics) {
      const auto lines = Differences("row " + name, *found->second, replayed);
      check.lines.insert(check.lines.end(), lines.begin(), lines.end());
    } else {
      check.other_outcomes += found->second->value("outcome", Json()) != replayed.at("outcome");
    }
    there.erase(found);
  }
  if (!whole) return check;
  for (const auto& [name, row] : there) {
    check.lines.push_back(
        fmt::format("row {}: is in the file, but no such picture is drawn", name));
  }
  return check;
}

std::string Sha(const Json& input) { return input.at("sha").get<std::string>().substr(0, 8); }

std::string Heading(const Json& results, const fs::path& file, size_t rows) {
  const Json& experiment = results.at("experiment");
  const Json& provenance = results.at("provenance");
  const Json& inputs = results.at("inputs");
  return fmt::format(
      "{}: {}, profile {}, {} records, {} rows; commit {}{}, {}\n"
      "inputs: backbone {} {}, judge {}, reference CLIP {}, surrogate {}, {} concepts, dataset {} "
      "version {}\n",
      file.string(), experiment.at("name").get<std::string>(),
      experiment.at("profile").get<std::string>(), results.at("records").size(), rows,
      provenance.at("commit").get<std::string>(),
      provenance.at("dirty").get<bool>() ? " with changes" : "",
      provenance.at("host_cpu").get<std::string>(), experiment.at("backbone").get<std::string>(),
      Sha(inputs.at("backbone")), Sha(inputs.at("judge")), Sha(inputs.at("reference_clip")),
      Sha(inputs.at("surrogate")), inputs.at("concepts").size(),
      inputs.at("dataset").at("name").get<std::string>(),
      inputs.at("dataset").at("version").get<int>());
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

std::string Conclusion(const CheckReport& records, const RowCheck& rows) {
  if (!records.Passed() || !rows.lines.empty()) {
    CheckReport all;
    all.lines = records.lines;
    all.lines.insert(all.lines.end(), rows.lines.begin(), rows.lines.end());
    return fmt::format("DIFFERS in {} places (the file's value first):{}\n", all.lines.size(),
                       all.Lines());
  }
  if (records.agreement == Agreement::kSame) return "verified: every byte is the same.\n";
  return fmt::format(
      "verified on other numerics: this machine computes with other instructions, every value is "
      "within its tolerance, {} of {} rows have another outcome.\n",
      rows.other_outcomes, rows.compared);
}

// Computes the cells anew and adds to the report what the file has otherwise.
void Replay(const VerifyRequest& request, const Lab& lab, const Json& results,
            const std::vector<Json>& rows, const std::set<CellName>& cells,
            Verification* verification) {
  Json before = DeterministicPart(results);
  before["records"] = RecordsIn(results.at("records"), cells);
  const bool whole = before["records"].size() == results.at("records").size();
  std::function<bool(const Cell&)> keep;
  if (!whole) {
    keep = [&](const Cell& cell) {
      return cells.count({lab.metrics[cell.metric].name, lab.methods[cell.method].name,
                          lab.attacks[cell.attack].name}) != 0;
    };
  }
  const Grid grid(lab, keep);
  EmptyStore replay(request.scratch);
  RunOptions options;
  options.workers = request.workers;
  const Results replayed = RunExperiment(lab, grid, replay.store(), options).results;
  Json now = DeterministicPart(ResultsToJson(replayed));
  std::vector<std::string> derived;
  if (!whole) {
    // Of a part no column of comparisons is whole: the file's must follow from its own samples.
    derived = ComparisonProblems(results, lab);
    before["comparisons"] = now["comparisons"] = Json::array();
    now["records"] = RecordsIn(now["records"], cells);
  }
  CheckReport records = CompareResults(before, now);
  if (!derived.empty()) {
    records.agreement = Agreement::kChanged;
    records.lines.insert(records.lines.end(), derived.begin(), derived.end());
  }
  const bool same_numerics =
      results.at("inputs").at("numerics").at("fingerprint") == lab.numerics.at("fingerprint");
  const RowCheck row_check = CompareRows(rows, replayed.rows, whole, same_numerics);
  verification->report +=
      fmt::format("replayed: {} of {} records, {} of {} rows\n", before["records"].size(),
                  results.at("records").size(), row_check.compared, rows.size());
  verification->verified = records.Passed() && row_check.lines.empty();
  verification->report += Conclusion(records, row_check);
}

}  // namespace

std::vector<std::string> ChooseRecords(const Json& results, const VerifyRequest& request) {
  std::vector<std::string> names;
  for (const Json& record : results.at("records")) names.push_back(RecordNameOf(record));
  for (const std::string& asked : request.records) {
    if (std::find(names.begin(), names.end(), asked) != names.end()) continue;
    const std::string near = Suggest(asked, names);
    throw UsageError(fmt::format(
        "--record='{}': the file has no such record.{} A record is named method / concept / attack "
        "/ metric, as {}.",
        asked, near.empty() ? "" : fmt::format(" Did you mean '{}'?", near),
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

std::vector<std::string> ComparisonProblems(const Json& results, const Lab& lab) {
  std::vector<Record> records;
  for (const Json& json : results.at("records")) {
    if (json.at("status") != "ok") continue;
    Record record;
    record.method = json.at("method");
    record.subject = json.at("concept");
    record.attack = json.at("attack");
    record.metric = json.at("metric");
    record.score = ScoreFromJson(json);
    const auto metric = std::find_if(lab.metrics.begin(), lab.metrics.end(),
                                     [&](const auto& m) { return m.name == record.metric; });
    if (metric != lab.metrics.end()) record.traits = metric->plugin->traits();
    records.push_back(std::move(record));
  }
  Json comparisons = Json::array();
  for (const Comparison& c : CompareAll(records)) comparisons.push_back(ComparisonToJson(c));
  return Differences("comparisons", results.at("comparisons"), comparisons);
}

Verification VerifyResults(const VerifyRequest& request) {
  const Json results = ReadResults(request.file);
  const std::vector<Json> rows = ReadResultRows(request.file);
  const std::set<CellName> cells = CellsOf(results.at("records"), ChooseRecords(results, request));
  const Experiment experiment = ExperimentOf(results, request.file.string(), request.settings);
  if (experiment.golden) {
    PinGolden();
  } else {
    UseOneThreadPerWorker();
  }
  DistrustDigests();
  Verification verification;
  verification.report = Heading(results, request.file, rows.size());
  const std::unique_ptr<Lab> lab = OpenLabOf(experiment, request, results);
  CheckReport inputs;
  inputs.lines = InputDifferences(results.at("inputs"), DescribeInputs(*lab));
  const std::vector<std::string> versions = VersionProblems(results.at("records"), *lab);
  inputs.lines.insert(inputs.lines.end(), versions.begin(), versions.end());
  if (!inputs.lines.empty()) {
    verification.report +=
        "OTHER INPUTS (the file's first); nothing was replayed, for it would say nothing:" +
        inputs.Lines() + "\n";
    return verification;
  }
  Replay(request, *lab, results, rows, cells, &verification);
  return verification;
}

}  // namespace excise
