// What: how often the members of a panel of judges differ
// Paper: kappa is Cohen, "A Coefficient of Agreement for Nominal Scales", Educational and
//   Psychological Measurement 20(1), 1960
// Equation: share of pictures on which the members do not all say the same; for each two members
//   kappa = (p - e) / (1 - e), p how often they agree, e how often they would by chance, from how
//   often each says yes
// Reference: scikit-learn, cohen_kappa_score
// Deviations: two members of which both always say the same word have no kappa, and no part
// Needs: a panel as judge
// Caveats: says nothing of which member is right
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "metrics/sample_table.h"

namespace excise {
namespace {

using Votes = std::vector<bool>;

class JudgeDisagreement : public Metric {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MetricTraits traits() const override {
    MetricTraits traits{"fraction", false, 0, 1, "quality", {"target", "near", "far", "lexical"}};
    traits.of_votes = true;
    return traits;
  }

  void Update(const MetricModels&, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsPicture(traits(), sample) || sample.verdict.votes.empty()) continue;
      table_.Add(sample, sample.verdict.votes);
    }
  }
  void Merge(const Metric& other) override {
    table_.Merge(dynamic_cast<const JudgeDisagreement&>(other).table_);
  }

  Score Compute() const override {
    std::vector<Observation> observations;
    size_t members = 0;
    for (const auto& [key, votes] : table_.rows()) {
      const auto yes = std::count(votes.begin(), votes.end(), true);
      const bool agree = yes == 0 || yes == static_cast<int64_t>(votes.size());
      observations.push_back({key.first, agree ? 0.0 : 1.0});
      members = std::max(members, votes.size());
    }
    Score score = MeanScore(observations);
    for (size_t a = 0; a < members; ++a) {
      score.parts[fmt::format("yes_{}", a)] = ShareOf([a](const Votes& v) { return v.at(a); });
      for (size_t b = a + 1; b < members; ++b) {
        const std::optional<double> kappa = Kappa(a, b);
        if (kappa) score.parts[fmt::format("kappa_{}_{}", a, b)] = *kappa;
      }
    }
    return score;
  }

 private:
  template <class Holds>
  double ShareOf(Holds holds) const {
    double count = 0;
    for (const auto& [key, votes] : table_.rows()) count += holds(votes) ? 1 : 0;
    return count / static_cast<double>(table_.rows().size());
  }

  std::optional<double> Kappa(size_t a, size_t b) const {
    const double agree = ShareOf([=](const Votes& v) { return v.at(a) == v.at(b); });
    const double one = ShareOf([=](const Votes& v) { return v.at(a); });
    const double other = ShareOf([=](const Votes& v) { return v.at(b); });
    const double chance = one * other + (1 - one) * (1 - other);
    if (chance >= 1) return std::nullopt;
    return (agree - chance) / (1 - chance);
  }

  SampleTable<Votes> table_;
};

const Registration<Metric, JudgeDisagreement> registration;

}  // namespace
}  // namespace excise
