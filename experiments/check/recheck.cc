#include "experiments/check/recheck.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "core/error.h"
#include "core/read_file.h"
#include "experiments/check/check.h"
#include "experiments/results/comparisons.h"
#include "experiments/results/over_concepts.h"
#include "experiments/results/recovery.h"
#include "experiments/run/report.h"
#include "experiments/tables/render.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

void Append(const std::vector<std::string>& more, std::vector<std::string>* lines) {
  lines->insert(lines->end(), more.begin(), more.end());
}

Json Listed(const std::vector<Comparison>& comparisons) {
  Json list = Json::array();
  for (const Comparison& c : comparisons) list.push_back(ComparisonToJson(c));
  return list;
}

// What is printed of a score.
Json Printed(const Score& score) {
  const Json json = ScoreToJson(score);
  Json printed = Json::object();
  for (const char* key : {"value", "stderr", "ci95", "n"}) printed[key] = json.at(key);
  return printed;
}

std::vector<Observation> Observations(const Score& score) {
  std::vector<Observation> observations;
  for (size_t i = 0; i < score.per_sample.size(); ++i) {
    observations.push_back({score.sample_ids[i], score.per_sample[i]});
  }
  return observations;
}

using Rule = Score (*)(const std::vector<Observation>&);

// How the score's interval follows from its samples; null: in a way of the metric's own.
Rule RuleOf(const Score& score) {
  const Json printed = Printed(score);
  for (const Rule rule : {MeanScore, MeanDistance}) {
    if (Printed(rule(Observations(score))) == printed) return rule;
  }
  return nullptr;
}

// A file's samples by record, where the ids of the replay's are known.
class Samples {
 public:
  Samples(const Results& read, const Results& replayed) {
    for (const Record& record : read.records) records_[RecordName(record)] = &record;
    for (const Record& record : replayed.records) {
      if (record.subject == kAllConcepts) ids_[RecordName(record)] = &record.score.sample_ids;
    }
  }

  const Record* Find(const std::string& name) const {
    const auto found = records_.find(name);
    return found == records_.end() ? nullptr : found->second;
  }

  // Those of `replayed`'s samples as the file has them, in its record over all concepts; nothing
  // where it has not all of them.
  std::optional<std::vector<Observation>> Of(const Record& replayed) {
    Record whole = replayed;
    whole.subject = kAllConcepts;
    const std::map<std::string, double>& known = Values(RecordName(whole));
    std::vector<Observation> observations;
    for (const std::string& id : replayed.score.sample_ids) {
      const auto value = known.find(id);
      if (value == known.end()) return std::nullopt;
      observations.push_back({id, value->second});
    }
    return observations;
  }

 private:
  const std::map<std::string, double>& Values(const std::string& name) {
    const auto [it, first] = values_.try_emplace(name);
    const Record* record = Find(name);
    if (!first || record == nullptr || record->status != "ok") return it->second;
    // Those of retrieval are written without ids: the order is the replay's.
    const bool named = record->traits.group != "retrieval" || ids_.count(name) == 0;
    const std::vector<std::string>& ids = named ? record->score.sample_ids : *ids_.at(name);
    const std::vector<double>& values = record->score.per_sample;
    for (size_t i = 0; i < std::min(ids.size(), values.size()); ++i) it->second[ids[i]] = values[i];
    return it->second;
  }

  std::map<std::string, const Record*> records_;
  std::map<std::string, const std::vector<std::string>*> ids_;  // of the replay's
  std::map<std::string, std::map<std::string, double>> values_;
};

// By extension. Of results that no run wrote, such as parts without their denominators, nothing.
std::map<std::string, std::string> Rendered(const Results& read) {
  try {
    const Document document = DescribeTable(read);
    return {{".md", RenderMarkdown(document)},
            {".tex", RenderLatex(document)},
            {".csv", RenderCsv(read)}};
  } catch (const std::exception&) {
    return {{".md", ""}, {".tex", ""}, {".csv", ""}};
  }
}

// Intervals over concepts that do not follow from the samples beside them. Samples of retrieval are
// written without ids, and files of earlier versions have no such intervals.
std::vector<std::string> OverConceptsProblems(const Results& read) {
  std::vector<std::string> lines;
  std::vector<Record> again = read.records;
  AddIntervalsOverConcepts(&again);
  for (size_t i = 0; i < again.size(); ++i) {
    const Score &there = read.records[i].score, &now = again[i].score;
    const bool says = there.over_concepts.has_value() || !there.parts_over_concepts.empty();
    if (!says || again[i].traits.group == "retrieval") continue;
    const auto same = [](const Interval& a, const Interval& b) {
      return a.low == b.low && a.high == b.high;
    };
    bool follows = there.over_concepts.has_value() == now.over_concepts.has_value() &&
                   there.parts_over_concepts.size() == now.parts_over_concepts.size();
    if (follows && now.over_concepts) follows = same(*there.over_concepts, *now.over_concepts);
    for (const auto& [part, interval] : now.parts_over_concepts) {
      const auto found = there.parts_over_concepts.find(part);
      follows =
          follows && found != there.parts_over_concepts.end() && same(found->second, interval);
    }
    if (follows) continue;
    lines.push_back(RecordName(again[i]) +
                    ": the interval over concepts does not follow from the record's samples");
  }
  return lines;
}

}  // namespace

std::vector<std::string> DerivedProblems(const Results& read) {
  std::vector<std::string> lines =
      Differences("comparisons", Listed(read.comparisons), Listed(CompareAll(read.records)));
  // Samples are kept in the records over all concepts alone.
  std::vector<Record> members;
  std::map<std::string, const Record*> claimed;
  for (const Record& record : read.records) {
    if (record.subject != kAllConcepts) continue;
    if (record.attack == kUnion || record.metric == kRecovery) {
      claimed[RecordName(record)] = &record;
    } else {
      members.push_back(record);
    }
  }
  try {
    std::vector<Record> derived = UnionRecords(members);
    members.insert(members.end(), derived.begin(), derived.end());
    // Earlier files have none.
    const bool recovers = std::any_of(read.records.begin(), read.records.end(),
                                      [](const Record& r) { return r.metric == kRecovery; });
    if (recovers) {
      const std::vector<Record> recoveries = RecoveryRecords(read.experiment, members);
      derived.insert(derived.end(), recoveries.begin(), recoveries.end());
    }
    for (const Record& worst : derived) {
      const auto found = claimed.find(RecordName(worst));
      if (found == claimed.end()) {
        lines.push_back(RecordName(worst) + ": is missing in the file");
      } else if (worst.status == "ok" && found->second->status == "ok") {
        // OverConceptsProblems looks at the worst cases'; earlier files have none of recoveries.
        Score there = found->second->score, now = worst.score;
        if (!there.over_concepts || !now.over_concepts) {
          there.over_concepts.reset();
          now.over_concepts.reset();
        }
        there.parts_over_concepts.clear();
        Append(Differences(RecordName(worst), ScoreToJson(there), ScoreToJson(now)), &lines);
      }
    }
  } catch (const Error& error) {
    lines.push_back(error.what());
  }
  Append(OverConceptsProblems(read), &lines);
  return lines;
}

std::vector<std::string> IntervalProblems(const Results& read, const Results& replayed) {
  Samples samples(read, replayed);
  std::vector<std::string> lines;
  for (const Record& record : replayed.records) {
    const std::string name = RecordName(record);
    const Record* there = samples.Find(name);
    if (there == nullptr || record.status != "ok" || there->status != "ok") continue;
    if (record.score.per_sample.empty()) continue;
    // Which pictures a rate leaves out follows from what they show, so its samples are others.
    if (there->score.n != record.score.n) continue;
    const Rule rule = RuleOf(record.score);
    if (rule == nullptr) continue;
    const std::optional<std::vector<Observation>> observations = samples.Of(record);
    if (!observations) {
      lines.push_back(name + ": the file lacks some of its samples");
      continue;
    }
    Append(Differences(name, Printed(there->score), Printed(rule(*observations))), &lines);
  }
  return lines;
}

std::vector<std::string> RowProblems(const Results& read, const std::vector<Json>& rows) {
  std::map<std::string, bool> shown;  // by method, attack and sample
  for (const Json& row : rows) {
    const auto text = [&](const char* key) { return row.at(key).get<std::string>(); };
    shown[fmt::format("{} / {} / {}/{}/{}#{}", text("method"), text("attack"), text("concept"),
                      text("group"), text("root_id"), ReplicateOf(row))] =
        row.value("outcome", Json()) == "target";
  }
  std::vector<std::string> lines;
  for (const Record& record : read.records) {
    if (record.metric_params.value("plugin", record.metric) != "asr") continue;
    if (record.status != "ok" || record.attack == kUnion) continue;
    const Score& score = record.score;
    for (size_t i = 0; i < score.per_sample.size(); ++i) {
      const auto row = shown.find(
          fmt::format("{} / {} / {}", record.method, record.attack, score.sample_ids[i]));
      if (row != shown.end() && row->second == (score.per_sample[i] == 1)) continue;
      lines.push_back(fmt::format("{}: the sample {} is not what its row says", RecordName(record),
                                  score.sample_ids[i]));
      break;
    }
  }
  return lines;
}

std::vector<std::string> UnverifiedDocuments(const Results& read, const fs::path& file) {
  std::vector<std::string> lines;
  for (const auto& [extension, text] : Rendered(read)) {
    fs::path beside = file;
    beside.replace_extension(extension);
    std::error_code ignored;
    if (!fs::is_regular_file(beside, ignored)) continue;
    if (fs::file_size(beside, ignored) == text.size() && ReadFile(beside) == text) continue;
    lines.push_back(fmt::format(
        "{} is not what these records render to: it was edited, or another version wrote it",
        beside.filename().string()));
  }
  for (const char* extension : {".html", ".svg", ".png"}) {
    fs::path beside = file;
    beside.replace_extension(extension);
    std::error_code ignored;
    if (fs::exists(beside, ignored)) lines.push_back(beside.filename().string());
  }
  return lines;
}

}  // namespace excise
