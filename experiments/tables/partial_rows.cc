#include "experiments/tables/partial_rows.h"

#include <algorithm>
#include <cmath>

#include "core/stats.h"

namespace excise {
namespace {

// Some row's number over all concepts is the mean of its samples.
bool IsMean(const TableView& view, const Record& whole) {
  for (const std::string& method : view.methods()) {
    const Record* record = view.Find(method, kAllConcepts, whole.attack, whole.metric);
    if (record == nullptr || record->status != "ok") continue;
    const std::vector<double>& samples = record->score.per_sample;
    double sum = 0;
    for (const double sample : samples) sum += sample;
    const auto n = static_cast<double>(samples.size());
    return !samples.empty() && static_cast<int64_t>(samples.size()) == record->score.n &&
           std::fabs(sum / n - record->score.value) < 1e-9 * (1 + std::fabs(sum / n));
  }
  return false;
}

bool IsCount(double value) { return std::fabs(value - std::round(value)) < 1e-6; }

}  // namespace

std::optional<PartialEstimate> EstimateOverSome(const TableView& view, const Record& whole,
                                                const std::string& part) {
  if (whole.status != "not_applicable" || !IsMean(view, whole)) return std::nullopt;
  PartialEstimate some;
  double sum = 0, n = 0, variance = 0;
  bool counts = whole.traits.unit == "fraction", spread = true;
  for (const std::string& subject : view.concepts()) {
    const Record* record = view.Find(whole.method, subject, whole.attack, whole.metric);
    if (record == nullptr) continue;
    const std::optional<Estimate> estimate = EstimateOf(*record, part);
    if (!estimate || estimate->n == 0) continue;
    some.concepts.push_back(subject);
    const auto size = static_cast<double>(estimate->n);
    sum += estimate->value * size;
    n += size;
    variance += size * size * record->score.stderr_ * record->score.stderr_;
    // A prompt's several pictures are no independent trials.
    counts = counts && IsCount(estimate->value * size) &&
             record->protocol.value("images_per_prompt", 1) == 1 &&
             record->denominators.value("edits", 1) == 1;
    spread = spread && part.empty() && estimate->has_interval;
  }
  if (some.concepts.empty()) return std::nullopt;
  Estimate& estimate = some.estimate;
  estimate.value = estimate.low = estimate.high = sum / n;
  estimate.n = static_cast<int64_t>(n);
  estimate.has_interval = counts || spread;
  if (counts) {
    const Interval interval = Wilson(std::llround(sum), estimate.n);
    estimate.low = interval.low;
    estimate.high = interval.high;
  } else if (spread) {
    const double half = 1.959964 * std::sqrt(variance) / n;
    estimate.low -= half;
    estimate.high += half;
    if (whole.traits.unit == "fraction") {
      estimate.low = std::max(estimate.low, 0.0);
      estimate.high = std::min(estimate.high, 1.0);
    }
  }
  return some;
}

}  // namespace excise
