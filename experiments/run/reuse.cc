#include "experiments/run/reuse.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/plural.h"
#include "core/progress.h"
#include "core/store.h"
#include "core/text.h"
#include "experiments/results/read_results.h"

namespace excise {
namespace {

// What the cell's records are computed from: a digest a concept, and one over all.
std::vector<std::string> ScoreDigests(const Lab& lab, const Grid& grid, const Cell& cell) {
  std::vector<CellUnits> subjects = grid.UnitsOfCell(cell);
  subjects.push_back(OverAll(subjects));
  std::vector<std::string> digests;
  for (const CellUnits& subject : subjects) {
    digests.push_back(Store::Digest(ScoreKey(lab, cell.metric, subject.units, subject.base)));
  }
  return digests;
}

// A file has the samples of the record over all concepts; a concept's are those among them.
void RestoreSamples(const Score& whole, Record* record) {
  const std::string prefix = record->subject + "/";
  Score& score = record->score;
  score.sample_ids.clear();
  score.per_sample.clear();
  for (size_t i = 0; i < whole.per_sample.size(); ++i) {
    if (!StartsWith(whole.sample_ids[i], prefix)) continue;
    score.sample_ids.push_back(whole.sample_ids[i]);
    score.per_sample.push_back(whole.per_sample[i]);
  }
}

bool HasNumber(const Record& record) {
  return IsOneOf(record.status, {"ok", "not_applicable", "non_adaptive_only"}) &&
         MissingOf(record) == 0;
}

// The numerics that the file's cells were computed with: its own, and those of what it reused.
std::vector<Json> NumericsOf(const Results& results) {
  std::vector<Json> all = {results.inputs.at("numerics")};
  for (const Json& source : ReusedSources(results)) {
    const Json& more = source.at("numerics");
    if (std::find(all.begin(), all.end(), more) == all.end()) all.push_back(more);
  }
  return all;
}

// The first settings that differ, in words.
std::string OtherSettings(const Json& there, const Json& here) {
  const Json changes = Json::diff(there, here);
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(changes.size(), 3); ++i) {
    text +=
        (i == 0 ? " Its experiment differs in " : ", ") + changes[i].at("path").get<std::string>();
  }
  return text.empty() ? "" : text + ".";
}

}  // namespace

class Reuse {
 public:
  explicit Reuse(Lab* lab) : lab_(*lab), here_(*lab) {}

  void Take(const std::filesystem::path& file) {
    const Results results = LoadResults(file);
    if (results.rows.empty()) {
      throw Error(fmt::format(
          "--reuse={}: its rows, FILE.rows.jsonl, are not beside it. Copy both.", file.string()));
    }
    size_t taken = 0;
    for (const Json& numerics : NumericsOf(results)) {
      const size_t cells = TakeUnder(numerics, results);
      taken += cells;
      if (cells == 0) continue;
      reused.sources_.push_back({{"file", file.filename().string()},
                                 {"cells", cells},
                                 {"commit", results.provenance.at("commit")},
                                 {"host_cpu", results.provenance.at("host_cpu")},
                                 {"numerics", numerics}});
    }
    if (taken == 0) {
      throw UsageError(fmt::format(
          "--reuse={}: none of its numbers is one of this run: it has other rows and columns, or "
          "they were made by other versions, settings or models.{}",
          file.string(), OtherSettings(results.experiment, ExperimentToJson(lab_.experiment))));
    }
    LogInfo(fmt::format("{}: {} of {} are taken from it", file.string(), taken,
                        Plural(here_.cells().size(), "cell")));
  }

  Reused reused;

 private:
  // The lab while it computes with other instruction sets than this machine's.
  class Under {
   public:
    Under(Lab* lab, const Json& numerics) : lab_(*lab), own_(lab->numerics) {
      lab_.numerics = numerics;
    }
    ~Under() { lab_.numerics = own_; }
    Under(const Under&) = delete;
    Under& operator=(const Under&) = delete;

   private:
    Lab& lab_;
    const Json own_;
  };

  size_t TakeUnder(const Json& numerics, const Results& results) {
    const bool alike = numerics.value("device", "") == lab_.numerics.value("device", "") &&
                       numerics.value("dtype", "") == lab_.numerics.value("dtype", "");
    if (!alike) return 0;
    const Under under(&lab_, numerics);
    const Grid there(lab_);
    std::map<std::string, const Record*> records;
    for (const Record& record : results.records) records[RecordName(record)] = &record;
    std::map<UnitName, std::vector<Row>> rows;
    for (const Row& row : results.rows) {
      rows[{row.method, row.attack, row.artifact}].push_back(row);
    }
    size_t taken = 0;
    for (const Cell& cell : there.cells()) {
      if (reused.Has(cell)) continue;
      const std::vector<Record> own = RecordsOf(there, cell, records);
      if (own.empty() || !TakeRows(there, cell, rows)) continue;
      reused.records_[Reused::IdOf(cell)] = own;
      ++taken;
    }
    return taken;
  }

  // The cell's records, or nothing where one is missing or was computed from something else.
  std::vector<Record> RecordsOf(const Grid& there, const Cell& cell,
                                const std::map<std::string, const Record*>& records) const {
    if (lab_.metrics[cell.metric].plugin->traits().group == "retrieval") return {};
    Record name;
    name.method = lab_.methods[cell.method].name;
    name.attack = lab_.attacks[cell.attack].name;
    name.metric = lab_.metrics[cell.metric].name;
    std::vector<Record> own;
    std::vector<std::string> digests;
    for (size_t i = 0; i <= lab_.concepts.size(); ++i) {
      name.subject = i < lab_.concepts.size() ? lab_.concepts[i].name : kAllConcepts;
      const auto found = records.find(RecordName(name));
      if (found == records.end() || !HasNumber(*found->second)) return {};
      if (digests.empty()) digests = ScoreDigests(lab_, there, cell);
      if (found->second->lineage != std::vector<std::string>{digests[i]}) return {};
      own.push_back(*found->second);
    }
    for (size_t i = 0; i + 1 < own.size(); ++i) RestoreSamples(own.back().score, &own[i]);
    return own;
  }

  // Keeps the rows of the cell's pictures, by what they are called here; false where some are
  // missing.
  bool TakeRows(const Grid& there, const Cell& cell,
                const std::map<UnitName, std::vector<Row>>& rows) {
    std::map<UnitName, std::vector<Row>> kept;
    for (const CellUnits& subject : there.UnitsOfCell(cell)) {
      for (const Unit* unit : subject.units) {
        if (IsEmbeddedGroup(unit->group)) continue;
        const auto found = rows.find(NameOfUnit(lab_, *unit));
        if (found == rows.end() || found->second.size() != unit->prompts.size()) return false;
        const size_t index = static_cast<size_t>(unit - there.units().data());
        kept[NameOfUnit(lab_, here_.units()[index])] = found->second;
      }
    }
    reused.rows_.merge(kept);
    return true;
  }

  Lab& lab_;
  const Grid here_;
};

UnitName NameOfUnit(const Lab& lab, const Unit& unit) {
  return {lab.methods[unit.method].name, lab.attacks[unit.attack].name, unit.digest};
}

std::vector<Row> Reused::RowsOf(const UnitName& unit) const {
  const auto found = rows_.find(unit);
  return found == rows_.end() ? std::vector<Row>() : found->second;
}

Reused ReuseResults(Lab* lab, const std::vector<std::filesystem::path>& files) {
  if (files.empty()) return {};
  Reuse reuse(lab);
  for (const std::filesystem::path& file : files) reuse.Take(file);
  return std::move(reuse.reused);
}

}  // namespace excise
