// For tests: records from nowhere, for tests of what is made of them.
#pragma once

#include <fmt/format.h>

#include <string>
#include <vector>

#include "experiments/formats/experiment.h"
#include "experiments/results/comparisons.h"
#include "experiments/results/record.h"
#include "metrics/sample_table.h"

namespace excise {

// Ones for `hits` of `n` samples of "poodle", beginning with sample `first`.
inline Score MadeUpRate(int64_t n, int64_t hits, int64_t first = 0) {
  std::vector<Observation> observations;
  for (int64_t i = 0; i < n; ++i) {
    observations.push_back({fmt::format("poodle/target/set@0/{:03}#0", i),
                            i >= first && i < first + hits ? 1.0 : 0.0});
  }
  return MeanScore(observations);
}

inline Record MadeUpRecord(const std::string& method, const std::string& attack,
                           const std::string& metric, const Score& score,
                           const std::string& subject = kAllConcepts) {
  const std::string sha(64, 'a');
  Record record;
  record.method = method;
  record.attack = attack;
  record.metric = metric;
  record.subject = subject;
  record.method_version = record.attack_version = record.metric_version = 1;
  record.score = score;
  record.traits = {"fraction", false, 0, 1, "erasure", {"target"}};
  record.uses = {"known_names"};
  record.lineage = {sha};
  record.denominators = {
      {"set", 120}, {"eligible", 120}, {"excluded", 0}, {"attacked", 0}, {"scored", 120}};
  record.protocol = {{"sampler", "ddim"},
                     {"steps", 20},
                     {"guidance", 3.0},
                     {"size", {64, 64}},
                     {"images_per_prompt", 1},
                     {"unit_size", 4},
                     {"noise", "philox"},
                     {"success_rule", "the best class"},
                     {"q", 0},
                     {"judge",
                      {{"name", "reporting"},
                       {"version", 1},
                       {"classes", Json::array()},
                       {"threshold", nullptr},
                       {"sha", sha}}},
                     {"oracle", nullptr},
                     {"label_by", "prompt"},
                     {"form", "string"},
                     {"surrogate", nullptr},
                     {"adaptive", false},
                     {"replacement", nullptr},
                     {"set_sha", sha},
                     {"weights_sha", sha}};
  return record;
}

// Four methods and one attack; `none` is a reference row.
inline Results MadeUpResults() {
  const std::string sha(64, 'b');
  Results results;
  Experiment experiment;
  experiment.name = "made_up";
  experiment.title = "Made up";
  experiment.caveat = "Not comparable with papers.";
  experiment.concepts = {"poodle"};
  experiment.reference_rows = {"none"};
  results.experiment = ExperimentToJson(experiment);
  const Json model = {{"name", "emoji"}, {"sha", sha}};
  results.inputs = {{"backbone", model},
                    {"judge", model},
                    {"reference_clip", model},
                    {"surrogate", model},
                    {"dataset", {{"name", "set"}, {"version", 1}, {"params", Json::object()}}},
                    {"concepts", Json::object()},
                    {"numerics",
                     {{"device", "cpu"},
                      {"dtype", "float32"},
                      {"intra_op_threads", 1},
                      {"isa", "AVX2"},
                      {"libtorch", "2.11.0"},
                      {"fingerprint", sha}}}};
  const std::vector<std::pair<std::string, int64_t>> hits = {
      {"none", 118}, {"good", 6}, {"near", 8}, {"poor", 60}};
  for (const std::string subject : {"poodle", kAllConcepts}) {
    for (const auto& [method, count] : hits) {
      results.records.push_back(
          MadeUpRecord(method, "none", "asr", MadeUpRate(120, count), subject));
      results.records.push_back(
          MadeUpRecord(method, "pez", "asr", MadeUpRate(120, count / 2, 60), subject));
    }
  }
  results.comparisons = CompareAll(results.records);
  results.cost = {
      {"wall_seconds", Json::object()}, {"work_seconds", Json::object()}, {"peak_memory_mib", 100}};
  results.provenance = {{"commit", "unknown"},
                        {"dirty", false},
                        {"host_cpu", "a CPU"},
                        {"workers", 2},
                        {"started", "2026-01-02T03:04:05Z"},
                        {"finished", "2026-01-02T03:04:06Z"}};
  return results;
}

}  // namespace excise
