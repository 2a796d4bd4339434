// Squared maximum mean discrepancy with the polynomial kernel of the Kernel Inception Distance.
#pragma once

#include <cstdint>
#include <vector>

namespace excise {

// Row-major features (n, width).
struct Features {
  std::vector<double> values;
  int64_t width = 0;
  int64_t rows() const { return width ? static_cast<int64_t>(values.size()) / width : 0; }
};

enum class MmdEstimator {
  // Gretton et al. (JMLR 2012), eq. 4: mean over i != j of k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j)
  // - k(x_j, y_i). Unbiased also when x_i and y_i were drawn from the same noise, and exactly 0
  // when
  // the two sets are the same.
  kPaired,
  // Gretton et al., eq. 3, as clean-fid computes it: all pairs (i, j) in the mixed term.
  kUnpaired,
};

struct Mmd {
  double value = 0;
  double stderr_ = 0;  // delete-one jackknife over rows
};

// k(x, y) = (x . y / width + 1)^3. x and y have equal shapes with at least 2 rows, or Error.
Mmd PolynomialMmd2(const Features& x, const Features& y, MmdEstimator estimator);

}  // namespace excise
