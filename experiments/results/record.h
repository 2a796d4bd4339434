// A record: one number with everything that is needed to trust it, and the results file that holds
// all records of a run. results/SCHEMA.md describes the fields.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/stats.h"
#include "experiments/formats/results_file.h"
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
  // ok | error | not_applicable | non_adaptive_only | underpowered | unfit_judge
  std::string status = "ok";
  std::string reason;  // for every status but ok; with ok, what is missing
  Score score;
  MetricTraits traits;
  Json protocol = Json::object();
  // set -> eligible -> attacked -> scored; what was left out or is missing, and bounds
  Json denominators = Json::object();
  std::vector<std::string> lineage;  // digests of the artifacts it was computed from
};

inline constexpr const char* kAllConcepts = "*";
// The status of removals that are not reported, because the judge does not see the concept in the
// unmodified model's pictures either; see judge_fit.h.
inline constexpr const char* kUnfitJudge = "unfit_judge";
// The reason of `not_applicable` where a method's pictures have nothing that the metric reads.
inline constexpr const char* kNoPicture = "there is no picture that this metric reads";
// "uce / poodle / pez / asr": how a record is named in messages.
std::string RecordName(const Record& record);

// How many of its pictures could not be drawn or read. Such a record has a value of the others,
// and is neither ranked nor compared: nobody knows what is missing.
int64_t MissingOf(const Record& record);

// Values of single samples are kept in the records over all concepts alone.
Json RecordToJson(const Record& record);

// One line of <table>.rows.jsonl: one picture.
struct Row {
  std::string method, subject, attack, group, prompt_id, root_id, prompt, outcome, class_id, style;
  int64_t replicate = 0;
  std::optional<int64_t> erase_seed = {};  // of the edit, where the method's row has several
  double class_probability = 0;
  bool truncated = false;                  // the prompt is longer than the text encoder reads
  std::map<std::string, double> detected;  // raw scores of the method's detectors and filter
  std::string artifact;                    // digest of the unit that holds the picture
};
Json RowToJson(const Row& row);

// A paired test of two methods under one attack, or of two attacks on one method.
struct Comparison {
  std::string metric, part;  // part: a prompt group, where the metric reads several; or ""
  std::string over;          // "methods" | "attacks": what `first` and `second` are
  std::string given;         // the attack, or the method, that is the same in both
  std::string first, second;
  std::string test;  // "mcnemar" | "sign_flip"
  int64_t n = 0;
  double difference = 0, low = 0, high = 0;  // first - second, 95 % interval
  std::optional<Interval> ci90;              // of rates alone: for two one-sided tests at 5 %
  double p = 1;                              // of this pair, whoever else is compared
};
Json ComparisonToJson(const Comparison& comparison);

struct Results {
  Json experiment, inputs;              // deterministic
  std::vector<Record> records;          // deterministic
  std::vector<Comparison> comparisons;  // deterministic
  std::vector<Row> rows;                // deterministic
  Json cost, provenance;                // volatile
};

// provenance.reused: of which files the run took cells; an empty list for none.
Json ReusedSources(const Results& results);

// What is wrong with results that are complete otherwise, in a sentence or two; "" for nothing.
std::string ProblemsOf(const Results& results);

Json ResultsToJson(const Results& results);
// The deterministic part alone, for golden files and comparison of bytes.
Json DeterministicPart(const Json& results);
// FILE.json, FILE.rows.jsonl and the documents beside them, by extension (".md"): all or none, the
// JSON last (see WriteFilesTogether). Throws Error (full disk included).
void WriteResults(const Results& results, const std::map<std::string, std::string>& documents,
                  const std::filesystem::path& file);

}  // namespace excise
