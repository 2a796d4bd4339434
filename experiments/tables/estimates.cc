#include "experiments/tables/estimates.h"

#include <algorithm>
#include <cmath>

#include "core/stats.h"
#include "experiments/results/comparisons.h"
#include "experiments/tables/partial_rows.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

// How many samples a prompt has: its replicates, in each edit.
int64_t SamplesAPrompt(const Record& record) {
  return record.protocol.value("images_per_prompt", int64_t{1}) *
         record.denominators.value("edits", int64_t{1});
}

// The interval of a rate over the prompts of one group. A prompt with several samples is drawn as a
// whole where the record has its samples for good: results files keep those over all concepts
// alone, and a table says the same before and after it is stored.
Interval IntervalOfPart(const Record& record, const std::string& part, double value, int64_t n) {
  const int64_t each = SamplesAPrompt(record);
  std::vector<Observation> observations;
  const Score& score = record.score;
  const bool kept = record.subject == kAllConcepts;
  for (size_t i = 0; kept && each > 1 && i < score.per_sample.size(); ++i) {
    if (InGroup(score.sample_ids[i], part)) {
      observations.push_back({score.sample_ids[i], score.per_sample[i]});
    }
  }
  if (!observations.empty()) {
    const Score group = MeanScore(observations);
    return {group.low, group.high};
  }
  const int64_t prompts = std::max<int64_t>(1, n / each);
  return Wilson(std::llround(value * static_cast<double>(prompts)), prompts);
}

}  // namespace

std::optional<Estimate> EstimateOf(const Record& record, const std::string& part) {
  if (!HasPart(record, part)) return std::nullopt;
  if (part.empty()) {
    const Score& score = record.score;
    return Estimate{score.value, score.low, score.high, score.high > score.low, score.n};
  }
  const double value = ValueOf(record, part);
  const auto n = static_cast<int64_t>(record.score.parts.at(part + "_n"));
  if (record.traits.unit != "fraction") return Estimate{value, value, value, false, n};
  const Interval interval = IntervalOfPart(record, part, value, n);
  return Estimate{value, interval.low, interval.high, interval.high > interval.low, n};
}

std::vector<std::string> PartsOf(const Record& metric) {
  std::vector<std::string> parts;
  for (const std::string& name : metric.traits.sample_groups) {
    if (metric.score.parts.count(name + "_n") != 0) parts.push_back(name);
  }
  if (parts.empty()) parts.push_back("");
  return parts;
}

std::optional<Estimate> OverConcepts(const Record& record, const std::string& part) {
  const std::optional<Estimate> pooled = EstimateOf(record, part);
  const auto& parts = record.score.parts_over_concepts;
  const bool has = part.empty() ? record.score.over_concepts.has_value() : parts.count(part) != 0;
  if (!pooled || !has) return std::nullopt;
  const Interval& ci = part.empty() ? *record.score.over_concepts : parts.at(part);
  return Estimate{pooled->value, ci.low, ci.high, ci.high > ci.low, pooled->n};
}

}  // namespace excise
