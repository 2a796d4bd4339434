// A record: one number with everything that is needed to trust it, and the results file that holds
// all records of a run. results/SCHEMA.md describes the fields.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "metrics/metric.h"

namespace excise {

Json ScoreToJson(const Score& score);
Score ScoreFromJson(const Json& json);

struct Record {
  std::string method, subject, attack, metric;  // subject: a concept's name, or "*" for all
  int method_version = 0, attack_version = 0, metric_version = 0;
  Json method_params = Json::object(), attack_params = Json::object(),
       metric_params = Json::object();
  std::vector<std::string> uses;  // what the method knows beside the concept's names
  std::string status = "ok";      // ok | error | not_applicable | non_adaptive_only | underpowered
  std::string reason;             // for every status but ok
  Score score;
  MetricTraits traits;
  Json protocol = Json::object();
  std::vector<std::string> lineage;  // digests of the artifacts it was computed from
};

Json RecordToJson(const Record& record);

// One line of <table>.rows.jsonl: one picture.
struct Row {
  std::string method, subject, attack, group, prompt_id, root_id, prompt, outcome, class_id, style;
  int64_t replicate = 0;
  double class_probability = 0;
  std::string artifact;  // digest of the unit that holds the picture
};
Json RowToJson(const Row& row);

struct Results {
  Json experiment, inputs;      // deterministic
  std::vector<Record> records;  // deterministic
  std::vector<Row> rows;        // deterministic
  Json cost, provenance;        // volatile
};

Json ResultsToJson(const Results& results);
// The deterministic part alone, for golden files and comparison of bytes.
Json DeterministicPart(const Json& results);
// FILE.json, FILE.rows.jsonl and FILE.md. Throws Error (full disk included).
void WriteResults(const Results& results, const std::string& markdown,
                  const std::filesystem::path& file);

}  // namespace excise
