#include "experiments/results/over_concepts.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "core/random.h"
#include "core/stats.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

// "poodle/near/emoji_prompts@1234/7#0" -> "poodle", "near".
struct Place {
  std::string subject, group;
};

Place PlaceOf(const std::string& sample_id) {
  const size_t first = sample_id.find('/'), second = sample_id.find('/', first + 1);
  if (second == std::string::npos) return {};
  return {sample_id.substr(0, first), sample_id.substr(first + 1, second - first - 1)};
}

// Of the samples of `group`, or of all where it is "".
std::vector<NestedValue> ValuesOf(const Score& score, const std::string& group) {
  std::vector<NestedValue> values;
  for (size_t i = 0; i < score.per_sample.size(); ++i) {
    const std::string& id = score.sample_ids[i];
    const Place place = PlaceOf(id);
    if (place.subject.empty() || (!group.empty() && place.group != group)) continue;
    values.push_back({place.subject, PromptOfId(id), EditOfId(id), score.per_sample[i]});
  }
  return values;
}

// Nothing where the values are of one concept and one edit, so that `ci95` covers as much, or where
// their mean is not `value`.
std::optional<Interval> Over(const std::vector<NestedValue>& values, double value) {
  std::set<std::string> subjects, edits;
  double sum = 0;
  for (const NestedValue& one : values) {
    subjects.insert(one.group);
    edits.insert(one.column);
    sum += one.value;
  }
  if (subjects.size() < 2 && edits.size() < 2) return std::nullopt;
  if (std::fabs(sum / static_cast<double>(values.size()) - value) > 1e-9) return std::nullopt;
  StreamKey key;
  key.id = "experiments/over_concepts";
  key.stream = Stream::kOrder;
  Philox rng(key);
  const Bootstrap bootstrap = BootstrapNested(values, rng);
  // Rounding must not leave the value outside its own interval.
  return Interval{std::min(bootstrap.ci.low, value), std::max(bootstrap.ci.high, value)};
}

}  // namespace

std::optional<Interval> IntervalOverConcepts(const std::vector<std::string>& sample_ids,
                                             const std::vector<double>& values) {
  std::vector<NestedValue> nested;
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string& id = sample_ids[i];
    nested.push_back({PlaceOf(id).subject, PromptOfId(id), EditOfId(id), values[i]});
    sum += values[i];
  }
  return Over(nested, sum / static_cast<double>(std::max<size_t>(values.size(), 1)));
}

void AddIntervalsOverConcepts(std::vector<Record>* records) {
  for (Record& record : *records) {
    if (record.subject != kAllConcepts || record.status != "ok") continue;
    if (record.traits.unit != "fraction" || record.score.per_sample.empty()) continue;
    Score& score = record.score;
    score.over_concepts = Over(ValuesOf(score, ""), score.value);
    for (const std::string& group : record.traits.sample_groups) {
      const auto part = score.parts.find(group);
      if (part == score.parts.end()) continue;
      const std::optional<Interval> interval = Over(ValuesOf(score, group), part->second);
      if (interval) score.parts_over_concepts[group] = *interval;
    }
  }
}

}  // namespace excise
