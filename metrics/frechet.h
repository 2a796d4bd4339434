// How far two sets of embeddings lie apart in their first and second moments.
#pragma once

#include "metrics/kernel_distance.h"

namespace excise {

struct MomentShift {
  double mean = 0;  // |mean(y) - mean(x)|
  // tr(X + Y - 2 (X Y)^(1/2)) of the covariances (over n - 1), at least 0: the second term of the
  // Frechet distance of two normal distributions (Dowson and Landau, Journal of Multivariate
  // Analysis 12:450, 1982).
  double covariance = 0;
  double Frechet() const { return mean * mean + covariance; }
};

// x and y of equal width with at least 2 rows each, or Error. Equal sets: exactly 0.
MomentShift ShiftBetween(const Features& x, const Features& y);

}  // namespace excise
