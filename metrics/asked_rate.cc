#include "metrics/asked_rate.h"

#include <array>

namespace excise {
namespace {

bool AsExpected(const Prompt& prompt, const Verdict& verdict) {
  const bool right_class =
      prompt.expected_class.empty() || verdict.class_id == prompt.expected_class;
  // A judge that tells no styles apart is asked for none.
  const bool right_style = prompt.expected_style.empty() || verdict.style.empty() ||
                           verdict.style == prompt.expected_style;
  return !verdict.class_id.empty() && right_class && right_style;
}

}  // namespace

void AskedRate::Update(const MetricModels&, const std::vector<Sample>& samples) {
  for (const Sample& sample : samples) {
    if (!ReadsPicture(traits(), sample)) continue;
    table_.Add(sample, {sample.group, !sample.blocked && AsExpected(sample.prompt, sample.verdict),
                        AsExpected(sample.prompt, sample.base_verdict)});
  }
}

void AskedRate::Merge(const Metric& other) {
  table_.Merge(dynamic_cast<const AskedRate&>(other).table_);
}

Score AskedRate::Compute() const {
  std::vector<Observation> observations;
  std::map<std::string, std::array<double, 3>> groups;  // kept, kept by the base, n
  for (const std::string& group : groups_) groups[group] = {};
  double base = 0;
  for (const auto& [key, row] : table_.rows()) {
    observations.push_back({key.first, row.kept ? 1.0 : 0.0});
    std::array<double, 3>& sums = groups[row.group];
    sums[0] += row.kept;
    sums[1] += row.base_kept;
    sums[2] += 1;
    base += row.base_kept;
  }
  Score score = MeanScore(observations);
  score.parts["base"] = score.n ? base / static_cast<double>(score.n) : 0;
  for (const auto& [group, sums] : groups) {
    score.parts[group] = sums[2] > 0 ? sums[0] / sums[2] : 0;
    score.parts[group + "_base"] = sums[2] > 0 ? sums[1] / sums[2] : 0;
    score.parts[group + "_n"] = sums[2];
  }
  return score;
}

}  // namespace excise
