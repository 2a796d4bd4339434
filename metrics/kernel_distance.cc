#include "metrics/kernel_distance.h"

#include <fmt/format.h>

#include <Eigen/Core>
#include <cmath>

#include "core/error.h"

namespace excise {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix Kernel(const Eigen::Map<const Matrix>& x, const Eigen::Map<const Matrix>& y) {
  const double width = static_cast<double>(x.cols());
  return ((x * y.transpose()).array() / width + 1).cube().matrix();
}

}  // namespace

Mmd PolynomialMmd2(const Features& x, const Features& y, MmdEstimator estimator) {
  const int64_t n = x.rows();
  if (n < 2 || y.rows() != n || y.width != x.width) {
    throw Error(fmt::format(
        "kid needs two sets of equally many pictures, at least 2 each; got {} and {} of widths {} "
        "and {}.",
        n, y.rows(), x.width, y.width));
  }
  const Eigen::Map<const Matrix> a(x.values.data(), n, x.width), b(y.values.data(), n, y.width);
  const Matrix kxx = Kernel(a, a), kyy = Kernel(b, b), kxy = Kernel(a, b);
  // Symmetric sums, so that equal sets cancel to exactly 0 in spite of rounding.
  const Matrix within = (kxx + kxx.transpose()) / 2 + (kyy + kyy.transpose()) / 2;
  const Matrix between = kxy + kxy.transpose();
  // Pairs with row i, i != j, counted from both sides: within the sets, and mixed.
  const Eigen::VectorXd diagonal = kxy.diagonal();
  const Eigen::VectorXd own = 2 * (within.rowwise().sum() - within.diagonal());
  const Eigen::VectorXd mixed = between.rowwise().sum() - between.diagonal();
  const double own_sum = own.sum() / 2, mixed_sum = mixed.sum() / 2, diagonal_sum = diagonal.sum();
  const bool paired = estimator == MmdEstimator::kPaired;
  // The estimate from sums over ordered pairs of m rows.
  const auto estimate = [paired](double own_pairs, double mixed_pairs, double same, double m) {
    return paired ? (own_pairs - 2 * mixed_pairs) / (m * (m - 1))
                  : own_pairs / (m * (m - 1)) - 2 * (mixed_pairs + same) / (m * m);
  };
  Mmd result;
  result.value = estimate(own_sum, mixed_sum, diagonal_sum, n);
  if (n < 3) return result;  // no jackknife
  Eigen::VectorXd without(n);
  for (int64_t i = 0; i < n; ++i) {
    without(i) =
        estimate(own_sum - own(i), mixed_sum - mixed(i), diagonal_sum - diagonal(i), n - 1);
  }
  const double m = static_cast<double>(n);
  result.stderr_ = std::sqrt((without.array() - without.mean()).square().sum() * (m - 1) / m);
  return result;
}

}  // namespace excise
