#include "metrics/sample_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/random.h"
#include "core/stats.h"
#include "core/text.h"

namespace excise {

std::string SampleId(const Sample& sample) {
  const std::string& root =
      sample.prompt.root_id.empty() ? sample.prompt.id : sample.prompt.root_id;
  return fmt::format("{}/{}/{}#{}{}", sample.subject ? sample.subject->name : "", sample.group,
                     root, sample.replicate, EditMark(sample));
}

std::string EditMark(const Sample& sample) {
  return sample.erase_seed ? fmt::format("@{}", *sample.erase_seed) : "";
}

std::string PromptOfId(const std::string& sample_id) {
  return sample_id.substr(0, sample_id.rfind('#'));
}

std::string EditOfId(const std::string& sample_id) {
  const size_t replicate = sample_id.rfind('#');
  const size_t edit = replicate == std::string::npos ? replicate : sample_id.find('@', replicate);
  return edit == std::string::npos ? "" : sample_id.substr(edit);
}

std::string WithoutEdit(const std::string& sample_id) {
  return sample_id.substr(0, sample_id.size() - EditOfId(sample_id).size());
}

void ThrowDuplicateSample(std::string_view id, std::string_view prompt_id) {
  throw Error(fmt::format(
      "Sample {} (prompt {}) was counted already: two units of work overlap, so rates would be "
      "wrong. Merge each shard once.",
      id, prompt_id));
}

bool ReadsGroup(const MetricTraits& traits, const Sample& sample) {
  return IsOneOf(sample.group, traits.sample_groups);
}

bool IsMissing(const Sample& sample) { return !sample.blocked && !sample.image.defined(); }

bool ReadsPicture(const MetricTraits& traits, const Sample& sample) {
  return ReadsGroup(traits, sample) && !IsMissing(sample);
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

Score MeanScore(const std::vector<Observation>& observations) {
  std::set<std::string> prompts;
  int64_t ones = 0;
  bool binary = !observations.empty();
  for (const Observation& observation : observations) {
    prompts.insert(PromptOfId(observation.id));
    ones += observation.value == 1;
    binary = binary && (observation.value == 0 || observation.value == 1);
  }
  Score score = MeanDistance(observations);
  if (!binary || prompts.size() != observations.size()) return score;
  const Interval interval = Wilson(ones, score.n);
  score.low = interval.low;
  score.high = interval.high;
  score.stderr_ = std::sqrt(score.value * (1 - score.value) / static_cast<double>(score.n));
  return score;
}

Score MeanDistance(const std::vector<Observation>& observations) {
  Score score;
  std::vector<std::string> prompts;
  for (const Observation& observation : observations) {
    score.sample_ids.push_back(observation.id);
    score.per_sample.push_back(observation.value);
    prompts.push_back(PromptOfId(observation.id));
  }
  score.n = static_cast<int64_t>(observations.size());
  if (score.n == 0) return score;
  score.value = Mean(score.per_sample);
  StreamKey key;
  key.id = "metrics/bootstrap";
  key.stream = Stream::kOrder;
  Philox rng(key);
  const Bootstrap bootstrap = BootstrapMean(score.per_sample, prompts, rng, 2000);
  // One prompt alone says nothing about how prompts differ.
  score.stderr_ = std::isfinite(bootstrap.standard_error) ? bootstrap.standard_error : 0;
  // Rounding must not leave the value outside its own interval.
  score.low = std::min(bootstrap.ci.low, score.value);
  score.high = std::max(bootstrap.ci.high, score.value);
  return score;
}

}  // namespace excise
