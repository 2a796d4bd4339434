#include "metrics/auroc.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "core/error.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::string ClusterOf(const Scored& picture) { return PromptOfId(picture.id); }

// The share of `sorted` that lies below `score`, equal ones half.
double ShareBelow(const std::vector<double>& sorted, double score) {
  const auto [low, high] = std::equal_range(sorted.begin(), sorted.end(), score);
  const auto below = static_cast<double>(low - sorted.begin());
  return (below + static_cast<double>(high - low) / 2) / static_cast<double>(sorted.size());
}

// The variance of the area when both classes were exponential (Hanley and McNeil 1982), with the
// counts made symmetric (Newcombe 2006, method 5).
double ModelVariance(double area, double positives, double negatives) {
  const double mean_count = (positives + negatives) / 2 - 1;
  return area * (1 - area) * (1 + mean_count * ((1 - area) / (2 - area) + area / (1 + area))) /
         (positives * negatives);
}

// The farthest area on one side of `area` that is not refuted by it.
double NewcombeLimit(double area, double end, double positives, double negatives) {
  const double z = NormalQuantile(0.975);
  double inside = area, outside = end;
  for (int i = 0; i < 100; ++i) {
    const double middle = (inside + outside) / 2;
    const double spread = z * std::sqrt(ModelVariance(middle, positives, negatives));
    (std::fabs(area - middle) <= spread ? inside : outside) = middle;
  }
  return inside;
}

// Sums of a cluster's deviations, by class.
struct Cluster {
  double positive = 0, negative = 0;
  bool has_positive = false, has_negative = false;
};

double ClusteredError(const std::map<std::string, Cluster>& clusters, double m, double n,
                      double with_positive, double with_negative) {
  if (with_positive < 2 || with_negative < 2) return kNan;
  double positive = 0, negative = 0, both = 0;
  for (const auto& [id, cluster] : clusters) {
    positive += cluster.positive * cluster.positive;
    negative += cluster.negative * cluster.negative;
    both += cluster.positive * cluster.negative;
  }
  const auto all = static_cast<double>(clusters.size());
  const double variance = with_positive / (with_positive - 1) * positive / (m * m) +
                          with_negative / (with_negative - 1) * negative / (n * n) +
                          2 * all / (all - 1) * both / (m * n);
  return std::sqrt(std::max(0.0, variance));
}

}  // namespace

Auroc ComputeAuroc(const std::vector<Scored>& pictures) {
  Auroc result;
  std::vector<double> positives, negatives;
  for (const Scored& picture : pictures) {
    if (std::isnan(picture.score)) {
      throw Error(fmt::format(
          "The detector's score of sample {} is not a number, so it has no place in a ROC curve. "
          "Its embeddings are probably not finite: see whether its weights are.",
          picture.id));
    }
    (picture.positive ? positives : negatives).push_back(picture.score);
  }
  result.positives = static_cast<int64_t>(positives.size());
  result.negatives = static_cast<int64_t>(negatives.size());
  result.value = result.standard_error = kNan;
  result.ci = {0, 1};
  if (positives.empty() || negatives.empty()) return result;
  std::sort(positives.begin(), positives.end());
  std::sort(negatives.begin(), negatives.end());

  // A picture's placement: the share of the other class on its right side.
  std::vector<double> placements;
  double sum = 0;
  for (const Scored& picture : pictures) {
    placements.push_back(picture.positive ? ShareBelow(negatives, picture.score)
                                          : 1 - ShareBelow(positives, picture.score));
    if (picture.positive) sum += placements.back();
  }
  const auto m = static_cast<double>(positives.size()), n = static_cast<double>(negatives.size());
  result.value = sum / m;

  std::map<std::string, Cluster> clusters;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const bool positive = pictures[i].positive;
    const double deviation = placements[i] - result.value;
    Cluster& cluster = clusters[ClusterOf(pictures[i])];
    (positive ? cluster.positive : cluster.negative) += deviation;
    (positive ? cluster.has_positive : cluster.has_negative) = true;
    result.pseudo_values.push_back(result.value + deviation * (m + n) / (positive ? m : n));
  }
  double with_positive = 0, with_negative = 0;
  for (const auto& [id, cluster] : clusters) {
    with_positive += cluster.has_positive;
    with_negative += cluster.has_negative;
  }
  result.standard_error = ClusteredError(clusters, m, n, with_positive, with_negative);
  result.ci = {NewcombeLimit(result.value, 0, with_positive, with_negative),
               NewcombeLimit(result.value, 1, with_positive, with_negative)};
  return result;
}

std::vector<RocPoint> RocCurve(const std::vector<Scored>& pictures) {
  std::map<double, std::pair<double, double>, std::greater<double>> counts;  // by score, descending
  double positives = 0, negatives = 0;
  for (const Scored& picture : pictures) {
    auto& [found, alarms] = counts[picture.score];
    (picture.positive ? found : alarms) += 1;
    (picture.positive ? positives : negatives) += 1;
  }
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::vector<RocPoint> curve = {{kInfinity, 0, 0}};
  double found = 0, alarms = 0;
  for (auto it = counts.begin(); it != counts.end(); ++it) {
    found += it->second.first;
    alarms += it->second.second;
    const auto next = std::next(it);
    curve.push_back({next == counts.end() ? -kInfinity : next->first,
                     negatives > 0 ? alarms / negatives : 0,
                     positives > 0 ? found / positives : 0});
  }
  return curve;
}

Score AurocScore(const std::vector<Scored>& pictures) {
  Score score;
  const Auroc auroc = ComputeAuroc(pictures);
  score.parts["positives"] = static_cast<double>(auroc.positives);
  score.parts["negatives"] = static_cast<double>(auroc.negatives);
  if (std::isnan(auroc.value)) return score;
  score.n = auroc.positives + auroc.negatives;
  score.value = auroc.value;
  score.stderr_ = std::isnan(auroc.standard_error) ? 0 : auroc.standard_error;
  score.low = auroc.ci.low;
  score.high = auroc.ci.high;
  score.per_sample = auroc.pseudo_values;
  for (const Scored& picture : pictures) score.sample_ids.push_back(picture.id);
  const std::vector<RocPoint> curve = RocCurve(pictures);
  for (const auto& [name, most] :
       {std::pair{"01", 0.01}, std::pair{"05", 0.05}, std::pair{"10", 0.1}, std::pair{"20", 0.2}}) {
    double best = 0;
    for (const RocPoint& point : curve) {
      if (point.false_positive_rate <= most) best = point.true_positive_rate;
    }
    score.parts[fmt::format("tpr_at_fpr_{}", name)] = best;
  }
  return score;
}

}  // namespace excise
