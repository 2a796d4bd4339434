#include "metrics/frechet.h"

#include <fmt/format.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace excise {
namespace {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::MatrixXd Matrix(const Features& features) {
  return Eigen::Map<const RowMajor>(features.values.data(), features.rows(), features.width);
}

// A with A^T A = the covariance of the rows of `x`; at most as many rows as columns.
Eigen::MatrixXd CovarianceFactor(const Eigen::MatrixXd& x) {
  const Eigen::RowVectorXd mean = x.colwise().mean();
  const Eigen::MatrixXd centred =
      (x.rowwise() - mean) / std::sqrt(static_cast<double>(x.rows() - 1));
  if (x.rows() <= x.cols()) return centred;
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(centred);
  return qr.matrixQR().topRows(x.cols()).triangularView<Eigen::Upper>();
}

}  // namespace

MomentShift ShiftBetween(const Features& x, const Features& y) {
  if (x.width != y.width || x.rows() < 2 || y.rows() < 2) {
    throw Error(fmt::format(
        "Two sets of embeddings, {} x {} and {} x {}: equal widths and at least 2 rows each are "
        "needed to compare their moments.",
        x.rows(), x.width, y.rows(), y.width));
  }
  MomentShift shift;
  if (x.values == y.values) return shift;
  const Eigen::MatrixXd first = Matrix(x), second = Matrix(y);
  shift.mean = (second.colwise().mean() - first.colwise().mean()).norm();
  // X = A^T A and Y = B^T B, so X Y has the eigenvalues of (A B^T) (A B^T)^T: the trace of its root
  // is the sum of the singular values of A B^T, which is small when there are few pictures.
  const Eigen::MatrixXd a = CovarianceFactor(first), b = CovarianceFactor(second);
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(a * b.transpose());
  shift.covariance =
      std::max(0.0, a.squaredNorm() + b.squaredNorm() - 2 * svd.singularValues().sum());
  return shift;
}

}  // namespace excise
