#include "core/stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "core/error.h"

namespace excise {
namespace {

void RequireCounts(bool possible, const std::string& what) {
  if (!possible) {
    throw Error(what + ": impossible counts. The rows that were counted are probably damaged.");
  }
}

void RequireConfidence(double confidence) {
  if (confidence > 0 && confidence < 1) return;
  throw Error(fmt::format("A confidence level of {} is not between 0 and 1.", confidence));
}

double CriticalValue(double confidence) {
  // Written out for the levels that tables use, so that libm has no part in it.
  if (confidence == 0.95) return 1.959963984540054;
  if (confidence == 0.9) return 1.6448536269514722;
  RequireConfidence(confidence);
  return NormalQuantile(0.5 + confidence / 2);
}

// The p-quantile of sorted values, between neighbours linearly (type 7 of Hyndman and Fan).
double Quantile(const std::vector<double>& sorted, double p) {
  const double at = p * static_cast<double>(sorted.size() - 1);
  const size_t below = std::min(static_cast<size_t>(at), sorted.size() - 1);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

struct Cluster {
  double sum = 0;
  int64_t count = 0;
};

std::vector<Cluster> Gather(const std::vector<double>& values,
                            const std::vector<std::string>& ids) {
  std::vector<Cluster> clusters;
  if (ids.empty()) {
    for (double value : values) clusters.push_back({value, 1});
    return clusters;
  }
  std::map<std::string, std::vector<double>> by_id;
  for (size_t i = 0; i < values.size(); ++i) by_id[ids[i]].push_back(values[i]);
  for (auto& [id, members] : by_id) {
    std::sort(members.begin(), members.end());  // one order of summation, whatever the rows'
    clusters.push_back({std::accumulate(members.begin(), members.end(), 0.0),
                        static_cast<int64_t>(members.size())});
  }
  return clusters;
}

// The clusters of each stratum, in the order of their names.
std::vector<std::vector<Cluster>> GatherStrata(const std::vector<double>& values,
                                               const std::vector<std::string>& ids,
                                               const std::vector<std::string>& strata) {
  if (strata.empty()) return {Gather(values, ids)};
  std::map<std::string, std::pair<std::vector<double>, std::vector<std::string>>> parts;
  for (size_t i = 0; i < values.size(); ++i) {
    auto& [own_values, own_ids] = parts[strata[i]];
    own_values.push_back(values[i]);
    if (!ids.empty()) own_ids.push_back(ids[i]);
  }
  std::vector<std::vector<Cluster>> gathered;
  for (const auto& [name, part] : parts) gathered.push_back(Gather(part.first, part.second));
  return gathered;
}

double MeanOf(const std::vector<std::vector<Cluster>>& strata) {
  Cluster all;
  for (const std::vector<Cluster>& clusters : strata) {
    for (const Cluster& c : clusters) all.sum += c.sum, all.count += c.count;
  }
  return all.sum / static_cast<double>(all.count);
}

void RequirePairs(const PairedCounts& counts) {
  RequireCounts(counts.n() >= 1 && counts.both >= 0 && counts.only_first >= 0 &&
                    counts.only_second >= 0 && counts.neither >= 0,
                "Paired difference of rates");
}

// Tango's statistic for a true difference inside (-1, 1): how many standard errors the one seen
// lies above it, with the rates that are most likely under it. `first`, `second`: pairs where one
// of the two alone succeeds.
double TangoScore(double first, double second, double n, double difference) {
  const double b = (2 * n - first + second) * difference - first - second;
  const double c = -second * difference * (1 - difference);
  const double only_second = (std::sqrt(std::max(b * b - 8 * n * c, 0.0)) - b) / (4 * n);
  const double variance = n * (2 * only_second + difference * (1 - difference));
  const double above = first - second - n * difference;
  return above == 0 ? 0 : above / std::sqrt(std::max(variance, 0.0));
}

}  // namespace

Interval Wilson(int64_t successes, int64_t n, double confidence) {
  RequireCounts(n >= 0 && successes >= 0 && successes <= n,
                fmt::format("Wilson interval of {} of {}", successes, n));
  const double z = CriticalValue(confidence);
  if (n == 0) return {0, 1};
  const double k = static_cast<double>(successes), m = static_cast<double>(n);
  const double centre = k + z * z / 2;
  const double half = z * std::sqrt(k * (m - k) / m + z * z / 4);
  Interval out{(centre - half) / (m + z * z), (centre + half) / (m + z * z)};
  if (successes == 0) out.low = 0;  // exactly, not up to rounding
  if (successes == n) out.high = 1;
  return out;
}

Difference NewcombeIndependent(int64_t successes1, int64_t n1, int64_t successes2, int64_t n2,
                               double confidence) {
  RequireCounts(n1 >= 1 && n2 >= 1, fmt::format("Difference of rates of {} and {}", n1, n2));
  const Interval a = Wilson(successes1, n1, confidence), b = Wilson(successes2, n2, confidence);
  const double p1 = static_cast<double>(successes1) / static_cast<double>(n1);
  const double p2 = static_cast<double>(successes2) / static_cast<double>(n2);
  const auto length = [](double x, double y) { return std::sqrt(x * x + y * y); };
  const double difference = p1 - p2;
  return {
      difference,
      {difference - length(p1 - a.low, b.high - p2), difference + length(a.high - p1, p2 - b.low)}};
}

PairedCounts CountPairs(const std::vector<bool>& first, const std::vector<bool>& second) {
  if (first.size() != second.size()) {
    throw Error(
        fmt::format("Paired outcomes: {} samples against {}. A paired test needs the same "
                    "samples on both sides.",
                    first.size(), second.size()));
  }
  PairedCounts counts;
  for (size_t i = 0; i < first.size(); ++i) {
    ++(first[i] ? (second[i] ? counts.both : counts.only_first)
                : (second[i] ? counts.only_second : counts.neither));
  }
  return counts;
}

Difference NewcombePaired(const PairedCounts& counts, double confidence) {
  const int64_t total = counts.n();
  RequirePairs(counts);
  const double e = static_cast<double>(counts.both), f = static_cast<double>(counts.only_first);
  const double g = static_cast<double>(counts.only_second), h = static_cast<double>(counts.neither);
  const double n = static_cast<double>(total);
  const Interval a = Wilson(counts.both + counts.only_first, total, confidence);
  const Interval b = Wilson(counts.both + counts.only_second, total, confidence);
  const double p1 = (e + f) / n, p2 = (e + g) / n;
  double covariance = e * h - f * g;
  if (covariance > 0) covariance = std::max(covariance - n / 2, 0.0);
  const double scale = std::sqrt((e + f) * (g + h)) * std::sqrt((e + g) * (f + h));
  const double phi = scale == 0 ? 0 : covariance / scale;
  const auto length = [phi](double x, double y) {
    return std::sqrt(std::max(x * x - 2 * phi * x * y + y * y, 0.0));
  };
  const double difference = (f - g) / n;
  return {
      difference,
      {difference - length(p1 - a.low, b.high - p2), difference + length(a.high - p1, p2 - b.low)}};
}

Difference TangoPaired(const PairedCounts& counts, double confidence) {
  RequirePairs(counts);
  const double z = CriticalValue(confidence);
  const double first = static_cast<double>(counts.only_first);
  const double second = static_cast<double>(counts.only_second);
  const double n = static_cast<double>(counts.n());
  const double difference = (first - second) / n;
  // The score falls as the difference grows, from above z to below -z.
  const auto where = [&](double score, double low, double high) {
    constexpr int kHalvings = 60;
    for (int i = 0; i < kHalvings; ++i) {
      const double middle = (low + high) / 2;
      (TangoScore(first, second, n, middle) > score ? low : high) = middle;
    }
    return (low + high) / 2;
  };
  return {difference, {where(z, -1, difference), where(-z, difference, 1)}};
}

double McNemarExact(int64_t only_first, int64_t only_second) {
  RequireCounts(only_first >= 0 && only_second >= 0,
                fmt::format("McNemar test of {} and {}", only_first, only_second));
  const int64_t n = only_first + only_second, least = std::min(only_first, only_second);
  // C(n, k) relative to the middle one, by ratios from the middle outwards: no factorial can
  // overflow, and terms too small for a double do not count.
  double term = 1, tail = 0, all = 0;
  for (int64_t k = n / 2; k >= 0; --k) {
    const bool middle = 2 * k == n;
    all += middle ? term : 2 * term;
    if (k <= least) tail += term;
    term *= static_cast<double>(k) / static_cast<double>(n - k + 1);
  }
  return std::min(1.0, 2 * tail / all);
}

double FisherExact(int64_t a, int64_t b, int64_t c, int64_t d) {
  RequireCounts(a >= 0 && b >= 0 && c >= 0 && d >= 0,
                fmt::format("Fisher test of {} {} {} {}", a, b, c, d));
  const int64_t row1 = a + b, row2 = c + d, column = a + c;
  const int64_t low = std::max<int64_t>(0, column - row2), high = std::min(row1, column);
  // Hypergeometric weights relative to the most likely table, by ratios of neighbours.
  const double mode_at = static_cast<double>(row1 + 1) * static_cast<double>(column + 1) /
                         static_cast<double>(row1 + row2 + 2);
  const int64_t mode = std::clamp(static_cast<int64_t>(mode_at), low, high);
  const auto ratio = [&](int64_t x) {  // weight(x + 1) / weight(x)
    return static_cast<double>(row1 - x) * static_cast<double>(column - x) /
           (static_cast<double>(x + 1) * static_cast<double>(row2 - column + x + 1));
  };
  std::vector<double> weight(static_cast<size_t>(high - low + 1));
  weight[mode - low] = 1;
  for (int64_t x = mode; x < high; ++x) weight[x + 1 - low] = weight[x - low] * ratio(x);
  for (int64_t x = mode; x > low; --x) weight[x - 1 - low] = weight[x - low] / ratio(x - 1);
  // Equally likely tables on the other side may differ by rounding.
  const double limit = weight[a - low] * (1 + 1e-7);
  double extreme = 0, all = 0;
  for (double w : weight) {
    all += w;
    if (w <= limit) extreme += w;
  }
  return std::min(1.0, extreme / all);
}

std::vector<double> Holm(const std::vector<double>& p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double most = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    most = std::max(most, std::min(1.0, static_cast<double>(order.size() - i) * p[order[i]]));
    adjusted[order[i]] = most;
  }
  return adjusted;
}

MeanError MeanAndError(const std::vector<double>& values) {
  if (values.empty()) throw Error("The mean of no values was asked for: no row was eligible.");
  MeanError out;
  out.n = static_cast<int64_t>(values.size());
  const double n = static_cast<double>(out.n);
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (double v : values) squares += (v - out.mean) * (v - out.mean);
  out.standard_error = out.n < 2 ? std::numeric_limits<double>::quiet_NaN()
                                 : std::sqrt(squares / (n - 1)) / std::sqrt(n);
  return out;
}

Bootstrap FromResamples(double value, std::vector<double> means, double confidence) {
  RequireConfidence(confidence);
  std::sort(means.begin(), means.end());
  Bootstrap out;
  out.value = value;
  out.ci = {Quantile(means, (1 - confidence) / 2), Quantile(means, (1 + confidence) / 2)};
  const auto n = static_cast<double>(means.size());
  out.standard_error = n < 2 ? 0 : MeanAndError(means).standard_error * std::sqrt(n);
  return out;
}

Bootstrap BootstrapMean(const std::vector<double>& values, const std::vector<std::string>& ids,
                        Philox& rng, int64_t resamples, double confidence,
                        const std::vector<std::string>& strata_of) {
  if (values.empty()) throw Error("Bootstrap of no values: no row was eligible.");
  if (!ids.empty() && ids.size() != values.size()) {
    throw Error(fmt::format("Bootstrap: {} values but {} cluster ids.", values.size(), ids.size()));
  }
  if (!strata_of.empty() && strata_of.size() != values.size()) {
    throw Error(fmt::format("Bootstrap: {} values but {} names of strata.", values.size(),
                            strata_of.size()));
  }
  if (resamples < 1) throw Error("Bootstrap: at least one resample is needed.");
  RequireConfidence(confidence);
  const std::vector<std::vector<Cluster>> strata = GatherStrata(values, ids, strata_of);
  std::vector<double> means(static_cast<size_t>(resamples));
  for (double& mean : means) {
    Cluster drawn;
    for (const std::vector<Cluster>& clusters : strata) {
      for (size_t i = 0; i < clusters.size(); ++i) {
        const Cluster& c = clusters[rng.Below(clusters.size())];
        drawn.sum += c.sum;
        drawn.count += c.count;
      }
    }
    mean = drawn.sum / static_cast<double>(drawn.count);
  }
  return FromResamples(MeanOf(strata), std::move(means), confidence);
}

Bootstrap BootstrapPairedDifference(const std::vector<double>& first,
                                    const std::vector<double>& second,
                                    const std::vector<std::string>& clusters, Philox& rng,
                                    int64_t resamples, double confidence) {
  if (first.size() != second.size()) {
    throw Error(
        fmt::format("Paired difference: {} values against {}. A paired test needs the same "
                    "samples on both sides.",
                    first.size(), second.size()));
  }
  std::vector<double> differences(first.size());
  std::transform(first.begin(), first.end(), second.begin(), differences.begin(),
                 [](double x, double y) { return x - y; });
  return BootstrapMean(differences, clusters, rng, resamples, confidence);
}

SignFlipTests::SignFlipTests(const std::vector<std::vector<double>>& values,
                             const std::vector<std::string>& ids, Philox& rng, int64_t draws) {
  if (draws < 1) throw Error("Sign-flip test: at least one draw of signs is needed.");
  std::vector<std::vector<Cluster>> clusters;
  for (const std::vector<double>& own : values) {
    if (own.empty() || own.size() != values[0].size() ||
        (!ids.empty() && ids.size() != own.size())) {
      throw Error(
          fmt::format("Sign-flip test: {} values of {} samples with {} cluster ids. A paired test "
                      "needs the same samples on both sides, and at least one.",
                      own.size(), values[0].size(), ids.size()));
    }
    clusters.push_back(Gather(own, ids));
    sums_.push_back(0);
    sizes_.push_back(0);
    for (const Cluster& cluster : clusters.back()) sums_.back() += cluster.sum;
    for (const double value : own) sizes_.back() += std::abs(value);
  }
  flipped_.assign(values.size(), std::vector<double>(static_cast<size_t>(draws)));
  if (values.empty()) return;
  std::vector<double> signs(clusters[0].size());
  for (size_t draw = 0; draw < static_cast<size_t>(draws); ++draw) {
    uint64_t bits = 0;
    for (size_t c = 0; c < signs.size(); ++c) {
      if (c % 64 == 0) bits = rng.NextU64();
      signs[c] = (bits >> (c % 64) & 1) != 0 ? 1 : -1;
    }
    for (size_t k = 0; k < clusters.size(); ++k) {
      double sum = 0;
      for (size_t c = 0; c < signs.size(); ++c) sum += signs[c] * clusters[k][c].sum;
      flipped_[k][draw] = sum;
    }
  }
}

double SignFlipTests::PValue(size_t first, size_t second) const {
  const double rounding = 1e-12 * (sizes_.at(first) + sizes_.at(second));
  const double seen = std::abs(sums_[first] - sums_[second]) - rounding;
  const std::vector<double>&a = flipped_[first], &b = flipped_[second];
  int64_t as_far = 0;
  for (size_t draw = 0; draw < a.size(); ++draw) as_far += std::abs(a[draw] - b[draw]) >= seen;
  return static_cast<double>(as_far + 1) / static_cast<double>(a.size() + 1);
}

std::optional<double> KendallTauB(const std::vector<double>& first,
                                  const std::vector<double>& second) {
  if (first.size() != second.size()) {
    throw Error(fmt::format("Kendall's tau: {} values and {} of the same things.", first.size(),
                            second.size()));
  }
  int64_t agree = 0, untied_first = 0, untied_second = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const int a = (first[i] > first[j]) - (first[i] < first[j]);
      const int b = (second[i] > second[j]) - (second[i] < second[j]);
      agree += a * b;
      untied_first += a != 0;
      untied_second += b != 0;
    }
  }
  if (untied_first == 0 || untied_second == 0) return std::nullopt;
  return static_cast<double>(agree) /
         std::sqrt(static_cast<double>(untied_first) * static_cast<double>(untied_second));
}

double NormalQuantile(double p) {
  if (!(p > 0 && p < 1)) throw Error(fmt::format("NormalQuantile({}): not inside (0, 1).", p));
  if (p > 0.5) return -NormalQuantile(1 - p);
  // Newton's method on ln Phi, which is concave: from far left it converges without overshooting.
  double z = -std::sqrt(-2 * std::log(p));
  for (int i = 0; i < 100; ++i) {
    const double cdf = 0.5 * std::erfc(-z * 0.70710678118654752440);
    const double density = 0.39894228040143267794 * std::exp(-0.5 * z * z);
    const double step = (std::log(cdf) - std::log(p)) * cdf / density;
    z -= step;
    if (std::abs(step) <= 1e-15 * std::max(1.0, std::abs(z))) break;
  }
  return z;
}

}  // namespace excise
