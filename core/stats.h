// Intervals and tests for rates and means. Fractions are in [0, 1]. Only IEEE-exact operations are
// used on the levels 95 % and 90 %, so results are the same on every CPU. Impossible counts throw
// Error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/random.h"

namespace excise {

struct Interval {
  double low = 0, high = 0;
};

// A difference (first minus second) with its interval.
struct Difference {
  double value = 0;
  Interval ci;
};

// The score interval of a rate (Wilson, JASA 1927). n = 0: [0, 1], for nothing is known.
Interval Wilson(int64_t successes, int64_t n, double confidence = 0.95);

// Difference of two independent rates: method 10 (hybrid score) of Newcombe, Statistics in Medicine
// 17:873-890 (1998). Both n >= 1.
Difference NewcombeIndependent(int64_t successes1, int64_t n1, int64_t successes2, int64_t n2,
                               double confidence = 0.95);

// Outcomes of two procedures on the same samples.
struct PairedCounts {
  int64_t both = 0, only_first = 0, only_second = 0, neither = 0;
  int64_t n() const { return both + only_first + only_second + neither; }
};
PairedCounts CountPairs(const std::vector<bool>& first, const std::vector<bool>& second);

// Difference of two rates on the same samples: method 10 (hybrid score with the phi coefficient,
// continuity-corrected when positive) of Newcombe, Statistics in Medicine 17:2635-2650 (1998).
Difference NewcombePaired(const PairedCounts& counts, double confidence = 0.95);

// The same difference with the interval that inverts the score test of Tango, Statistics in
// Medicine 17:891-908 (1998), which was made for equivalence: it holds its level where hardly any
// pair differs. The 90 % one lies inside a margin where both one-sided tests at 5 % say so (TOST).
Difference TangoPaired(const PairedCounts& counts, double confidence = 0.95);

// Two-sided exact McNemar test: the binomial test of the discordant pairs against 1/2. Without
// any: 1.
double McNemarExact(int64_t only_first, int64_t only_second);

// Two-sided exact test of Fisher on {{a, b}, {c, d}}: the tables with these margins that are no
// more likely than the one seen.
double FisherExact(int64_t a, int64_t b, int64_t c, int64_t d);

// Holm's adjustment (Scandinavian Journal of Statistics 6:65-70, 1979): of several tests that are
// one family, each p so that "p < 5 %" keeps the chance of any false word at 5 %. In their order.
std::vector<double> Holm(const std::vector<double>& p);

struct MeanError {
  double mean = 0;
  double standard_error = 0;  // sd (n - 1) / sqrt(n); NaN when n < 2: store null
  int64_t n = 0;
};
MeanError MeanAndError(const std::vector<double>& values);

struct Bootstrap {
  double value = 0;           // of the sample itself
  double standard_error = 0;  // standard deviation over the resamples
  Interval ci;                // percentile interval
};

// `means`: of at least one resample. Throws Error where `confidence` is not between 0 and 1.
Bootstrap FromResamples(double value, std::vector<double> means, double confidence);

// Percentile bootstrap of a mean. `clusters` has an id for each value (a root prompt id): values of
// one id are drawn together, since images of one prompt are not independent. Empty: every value by
// itself. Clusters are drawn in the order of their ids, so the order of the rows does not matter.
// `strata` has a name for each value, the same within a cluster: each keeps its number of clusters
// in every resample, for what was chosen beforehand (concepts) is no chance. Empty: one stratum.
Bootstrap BootstrapMean(const std::vector<double>& values, const std::vector<std::string>& clusters,
                        Philox& rng, int64_t resamples = 10000, double confidence = 0.95,
                        const std::vector<std::string>& strata = {});

// The same of first[i] - second[i].
Bootstrap BootstrapPairedDifference(const std::vector<double>& first,
                                    const std::vector<double>& second,
                                    const std::vector<std::string>& clusters, Philox& rng,
                                    int64_t resamples = 10000, double confidence = 0.95);

// A value with its place in a design of three levels: a group (a concept) holds rows (its prompts)
// and columns (the edits of a model that remove it), which are crossed.
struct NestedValue {
  std::string group, row, column;
  double value = 0;
};

// Percentile bootstrap of the mean of all values over groups, rows and columns (Davison and
// Hinkley, Bootstrap Methods and Their Application, 1997, 3.8, resampling at each level). Each
// resample draws as many groups with replacement as there are and, in each drawn one anew, as many
// of its rows and as many of its columns; one group, or one column, is itself. The order of the
// values does not matter. With m groups of n rows and one column, S the mean square of groups'
// means around theirs and s the mean over groups of that of a group's values around their mean
// (both divided by m or n, not by one less), the variance of the resamples is (S + s / n) / m: of
// few groups somewhat too small where groups differ most, too large where rows do.
Bootstrap BootstrapNested(const std::vector<NestedValue>& values, Philox& rng,
                          int64_t resamples = 2000, double confidence = 0.95);

// Two-sided sign-flip tests (Fisher's paired randomisation test of the mean difference) between
// several procedures on the same samples: if two do not differ, the sign of a cluster's difference
// is a coin's. McNemar's exact test is this one for values of 0 and 1. It keeps its level at every
// number of clusters: n of them that all agree have p >= 2 / 2^n.
class SignFlipTests {
 public:
  // values[k][i]: of procedure k on sample i; `clusters` as in BootstrapMean. All pairs share the
  // same `draws` of signs. Throws Error where numbers of values differ or there are none.
  SignFlipTests(const std::vector<std::vector<double>>& values,
                const std::vector<std::string>& clusters, Philox& rng, int64_t draws);
  // (1 + #{a draw's difference is as far from 0 as the one seen}) / (1 + draws).
  double PValue(size_t first, size_t second) const;

 private:
  std::vector<double> sums_;                  // of each procedure
  std::vector<double> sizes_;                 // sum of |value|, to tell ties from rounding
  std::vector<std::vector<double>> flipped_;  // [procedure][draw]
};

// How far two rankings of the same things agree, in [-1, 1]: tau-b of Kendall, Biometrika 33:239
// (1945), which allows for ties: (concordant - discordant pairs) over the geometric mean of the
// pairs that the first, and that the second, does not tie. None where one of them ties all, or of
// fewer than two things: nothing is ranked. Throws Error where the numbers of values differ.
std::optional<double> KendallTauB(const std::vector<double>& first,
                                  const std::vector<double>& second);

// z with P(Z <= z) = p of a standard normal; 0 < p < 1.
double NormalQuantile(double p);

}  // namespace excise
