#include "models/nets/resize.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace excise {
namespace {

constexpr double kOne = 1 << 22;  // 1 in fixed point

double Kernel(Resampling resampling, double x) {
  x = std::abs(x);
  if (resampling == Resampling::kBilinear) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// (to, from) whole numbers: what each new pixel takes of the old ones, in fixed point.
at::Tensor Weights(int64_t from, int64_t to, Resampling resampling) {
  at::Tensor weights = at::zeros({to, from}, at::kDouble);
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(scale, 1.0);
  const double support = (resampling == Resampling::kBilinear ? 1 : 2) * stretch;
  for (int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t begin = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const int64_t end = std::min<int64_t>(from, static_cast<int64_t>(centre + support + 0.5));
    std::vector<double> own;
    double sum = 0;
    for (int64_t j = begin; j < end; ++j) {
      own.push_back(Kernel(resampling, (static_cast<double>(j) - centre + 0.5) * (1 / stretch)));
      sum += own.back();
    }
    double* row = weights.data_ptr<double>() + i * from;
    for (int64_t j = begin; j < end; ++j) {
      const double share = own[static_cast<size_t>(j - begin)] * (sum != 0 ? 1 / sum : 1);
      row[j] = std::trunc(share * kOne + (share < 0 ? -0.5 : 0.5));
    }
  }
  return weights;
}

// Sums of whole numbers below 2^53: doubles hold them exactly, in any order.
at::Tensor Rounded(const at::Tensor& sums) {
  return ((sums + kOne / 2) / kOne).floor_().clamp_(0, 255);
}

}  // namespace

at::Tensor ResizePictures(const at::Tensor& images, int64_t height, int64_t width,
                          Resampling resampling) {
  at::Tensor x = images.to(at::kDouble);
  const auto columns = [&] {
    if (width == x.size(3)) return;
    x = Rounded(at::matmul(x, Weights(x.size(3), width, resampling).t()));
  };
  const auto rows = [&] {
    if (height == x.size(2)) return;
    x = Rounded(at::matmul(Weights(x.size(2), height, resampling), x));
  };
  const int64_t fewer_rows = x.size(2) - height, fewer_columns = x.size(3) - width;
  if (fewer_rows > 0 && fewer_rows > 2 * fewer_columns) {
    rows();
    columns();
  } else {
    columns();
    rows();
  }
  return x.to(at::kByte);
}

at::Tensor ResizeAndCut(const at::Tensor& images, int64_t shorter, int64_t size,
                        Resampling resampling) {
  const int64_t height = images.size(2), width = images.size(3), least = std::min(height, width);
  const at::Tensor x =
      ResizePictures(images, height == least ? shorter : shorter * height / least,
                     width == least ? shorter : shorter * width / least, resampling);
  const auto begin = [size](int64_t extent) {
    return static_cast<int64_t>(std::nearbyint(static_cast<double>(extent - size) / 2));
  };
  return x.narrow(2, begin(x.size(2)), size).narrow(3, begin(x.size(3)), size);
}

}  // namespace excise
