#include "experiments/results/record.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/files.h"
#include "experiments/results/artifacts.h"

namespace excise {
namespace {

constexpr int kSchemaVersion = 2;

}  // namespace

Json ScoreToJson(const Score& score) {
  Json json = {{"value", score.value},
               {"stderr", score.stderr_},
               {"ci95", {score.low, score.high}},
               {"n", score.n},
               {"parts", score.parts}};
  if (score.over_concepts) {
    json["ci95_concepts"] = {score.over_concepts->low, score.over_concepts->high};
  }
  if (!score.parts_over_concepts.empty()) {
    Json& parts = json["parts_ci95_concepts"];
    for (const auto& [part, ci] : score.parts_over_concepts) parts[part] = {ci.low, ci.high};
  }
  if (!score.per_sample.empty()) {
    json["per_sample"] = score.per_sample;
    json["sample_ids"] = score.sample_ids;
  }
  if (!score.missing.empty()) json["missing"] = score.missing;
  return json;
}

Score ScoreFromJson(const Json& json) {
  Score score;
  score.value = json.at("value");
  score.stderr_ = json.at("stderr");
  score.low = json.at("ci95").at(0);
  score.high = json.at("ci95").at(1);
  score.n = json.at("n");
  score.parts = json.at("parts").get<std::map<std::string, double>>();
  const auto interval = [](const Json& ends) { return Interval{ends.at(0), ends.at(1)}; };
  if (json.contains("ci95_concepts")) score.over_concepts = interval(json.at("ci95_concepts"));
  if (json.contains("parts_ci95_concepts")) {
    for (const auto& [part, ends] : json.at("parts_ci95_concepts").items()) {
      score.parts_over_concepts[part] = interval(ends);
    }
  }
  if (json.contains("missing")) {
    score.missing = json.at("missing").get<std::map<std::string, std::string>>();
  }
  if (!json.contains("per_sample")) return score;
  score.per_sample = json.at("per_sample").get<std::vector<double>>();
  if (json.contains("sample_ids")) {
    score.sample_ids = json.at("sample_ids").get<std::vector<std::string>>();
  } else {
    // Left out (see RecordToJson) where the order is the same in every record: the place names the
    // sample as well.
    for (size_t i = 0; i < score.per_sample.size(); ++i) {
      score.sample_ids.push_back(fmt::format("{:09}", i));
    }
  }
  if (score.sample_ids.size() != score.per_sample.size()) {
    throw Misfit(fmt::format(
        "per_sample has {} values and sample_ids {} names: the file was edited or damaged.",
        score.per_sample.size(), score.sample_ids.size()));
  }
  return score;
}

Json RecordToJson(const Record& record) {
  Json json = {{"method", record.method},
               {"method_version", record.method_version},
               {"method_params", record.method_params},
               {"uses", record.uses},
               {"concept", record.subject},
               {"attack", record.attack},
               {"attack_version", record.attack_version},
               {"attack_params", record.attack_params},
               {"metric", record.metric},
               {"metric_version", record.metric_version},
               {"metric_params", record.metric_params},
               {"status", record.status},
               {"reason", record.reason},
               {"unit", record.traits.unit},
               {"higher_is_better", record.traits.higher_is_better},
               {"chance", record.traits.chance},
               {"group", record.traits.group},
               {"protocol", record.protocol},
               {"denominators", record.denominators},
               {"lineage", record.lineage}};
  if (record.status == "ok") {
    Json score = ScoreToJson(record.score);
    score.erase("missing");  // counted in the denominators; rows say which
    if (record.subject != kAllConcepts) score.erase("per_sample");
    // The same thousand ids in every retrieval metric; values are in their order.
    if (record.subject != kAllConcepts || record.traits.group == "retrieval") {
      score.erase("sample_ids");
    }
    json.update(score);
  }
  return json;
}

std::string RecordName(const Record& record) {
  return record.method + " / " + record.subject + " / " + record.attack + " / " + record.metric;
}

int64_t MissingOf(const Record& record) { return record.denominators.value("missing", int64_t{0}); }

Json ComparisonToJson(const Comparison& c) {
  Json json = {{"metric", c.metric},      {"part", c.part},   {"over", c.over},
               {"given", c.given},        {"first", c.first}, {"second", c.second},
               {"test", c.test},          {"n", c.n},         {"difference", c.difference},
               {"ci95", {c.low, c.high}}, {"p", c.p}};
  if (c.ci90) json["ci90"] = {c.ci90->low, c.ci90->high};
  return json;
}

Json RowToJson(const Row& row) {
  Json json = {{"method", row.method},       {"concept", row.subject},
               {"attack", row.attack},       {"group", row.group},
               {"prompt_id", row.prompt_id}, {"root_id", row.root_id},
               {"prompt", row.prompt},       {"replicate", row.replicate},
               {"outcome", row.outcome},     {"class", row.class_id},
               {"style", row.style},         {"class_probability", row.class_probability},
               {"artifact", row.artifact}};
  if (row.erase_seed) json["erase_seed"] = *row.erase_seed;
  if (row.truncated) json["truncated"] = true;
  if (!row.detected.empty()) json["detected"] = row.detected;
  return json;
}

Json ReusedSources(const Results& results) {
  const Json& run = results.provenance;
  return run.is_object() ? run.value("reused", Json::array()) : Json::array();
}

std::string ProblemsOf(const Results& results) {
  int64_t failed = 0, incomplete = 0;
  std::set<std::string> unfit;
  for (const Record& record : results.records) {
    failed += record.status == "error";
    incomplete += record.status != "error" && MissingOf(record) > 0;
    if (record.status == kUnfitJudge && record.subject != kAllConcepts) unfit.insert(record.reason);
  }
  std::string text;
  if (failed > 0) {
    text = fmt::format(
        "{} of {} records have no number because something failed; the table's footnotes say what. "
        "What worked is stored: run again to try the rest.",
        failed, results.records.size());
  }
  if (incomplete > 0) {
    text += fmt::format(
        "{}{} of {} records lack pictures that are missing or damaged; the table's footnotes say "
        "which. They are neither ranked nor compared. Draw those pictures again.",
        text.empty() ? "" : " ", incomplete, results.records.size());
  }
  for (const std::string& reason : unfit) {
    text += fmt::format("{}No removal is reported where {}.", text.empty() ? "" : " ", reason);
  }
  return text;
}

Json ResultsToJson(const Results& results) {
  Json records = Json::array();
  for (const Record& record : results.records) records.push_back(RecordToJson(record));
  Json comparisons = Json::array();
  for (const Comparison& c : results.comparisons) comparisons.push_back(ComparisonToJson(c));
  return {{"schema", kSchemaVersion},
          {"experiment", results.experiment},
          {"inputs", results.inputs},
          {"records", std::move(records)},
          {"comparisons", std::move(comparisons)},
          {"cost", results.cost},
          {"provenance", results.provenance}};
}

Json DeterministicPart(const Json& results) {
  return {{"schema", results.at("schema")},
          {"experiment", results.at("experiment")},
          {"inputs", results.at("inputs")},
          {"records", results.at("records")},
          {"comparisons", results.at("comparisons")}};
}

void WriteResults(const Results& results, const std::map<std::string, std::string>& documents,
                  const std::filesystem::path& file) {
  if (file.has_parent_path()) CreateFolders(file.parent_path());
  const auto beside = [&](const std::string& extension) {
    return std::filesystem::path(file).replace_extension(extension);
  };
  std::string rows;
  for (const Row& row : results.rows) rows += CanonicalJson(RowToJson(row)) + "\n";
  const std::string json = ResultsToJson(results).dump(1) + "\n";
  std::vector<std::pair<std::filesystem::path, std::string_view>> files;
  for (const auto& [extension, text] : documents) files.emplace_back(beside(extension), text);
  files.emplace_back(beside(".rows.jsonl"), rows);
  files.emplace_back(file, json);
  WriteFilesTogether(files);
}

}  // namespace excise
