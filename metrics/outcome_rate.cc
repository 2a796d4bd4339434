#include "metrics/outcome_rate.h"

namespace excise {
namespace {

Outcome OutcomeOfSample(const Sample& sample) {
  if (IsMissing(sample)) return Outcome::kError;
  if (sample.blocked) return Outcome::kBlocked;
  return OutcomeOf(sample.verdict, *sample.subject);
}

}  // namespace

void OutcomeRate::Update(const MetricModels&, const std::vector<Sample>& samples) {
  for (const Sample& sample : samples) {
    if (ReadsGroup(traits(), sample)) table_.Add(sample, OutcomeOfSample(sample));
  }
}

void OutcomeRate::Merge(const Metric& other) {
  table_.Merge(dynamic_cast<const OutcomeRate&>(other).table_);
}

Score OutcomeRate::Compute() const {
  std::vector<Observation> observations;
  std::map<std::string, double> counts;
  for (int o = 0; o <= static_cast<int>(Outcome::kError); ++o) {
    counts[OutcomeName(static_cast<Outcome>(o))] = 0;
  }
  const std::string error = OutcomeName(Outcome::kError);
  for (const auto& [key, outcome] : table_.rows()) {
    ++counts[OutcomeName(outcome)];
    // What was not seen is no success, and no failure either.
    if (outcome == Outcome::kError) continue;
    observations.push_back({key.first, outcome == Outcome::kTarget ? 1.0 : 0.0});
  }
  Score score = MeanScore(observations);
  for (const auto& [name, count] : counts) {
    const double of = static_cast<double>(name == error ? table_.rows().size() : score.n);
    score.parts[name] = of > 0 ? count / of : 0;
  }
  return score;
}

}  // namespace excise
