#include "models/nets/resize.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/empty.h>
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

// (to, from): what each new pixel takes of the old ones.
at::Tensor Shares(int64_t from, int64_t to, Resampling resampling) {
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
      row[j] = own[static_cast<size_t>(j - begin)] * (sum != 0 ? 1 / sum : 1);
    }
  }
  return weights;
}

// As whole numbers, in fixed point, rounded away from 0.
at::Tensor Weights(int64_t from, int64_t to, Resampling resampling) {
  const at::Tensor shares = Shares(from, to, resampling) * kOne;
  return (shares + shares.sign() * 0.5).trunc();
}

// Sums of whole numbers below 2^53: doubles hold them exactly, in any order.
at::Tensor Rounded(const at::Tensor& sums) {
  return ((sums + kOne / 2) / kOne).floor_().clamp_(0, 255);
}

// For each new pixel the two old ones between which it lies, and their weights.
struct Neighbours {
  at::Tensor first, second;                // int64 (to)
  at::Tensor first_weight, second_weight;  // int64 (to), together kCvOne
};

constexpr float kCvOne = 1 << 11;

// At an end columns take the one pixel that there is; rows keep both weights, and so two roundings.
Neighbours NeighboursOf(int64_t from, int64_t to, bool rows) {
  Neighbours all{at::empty({to}, at::kLong), at::empty({to}, at::kLong), at::empty({to}, at::kLong),
                 at::empty({to}, at::kLong)};
  const double scale = 1 / (static_cast<double>(to) / static_cast<double>(from));
  for (int64_t i = 0; i < to; ++i) {
    const auto place = static_cast<float>((static_cast<double>(i) + 0.5) * scale - 0.5);
    auto begin = static_cast<int64_t>(std::floor(place));
    float share = place - static_cast<float>(begin);
    if (!rows && (begin < 0 || begin >= from - 1)) {
      begin = std::clamp<int64_t>(begin, 0, from - 1);
      share = 0;
    }
    all.first.data_ptr<int64_t>()[i] = std::clamp<int64_t>(begin, 0, from - 1);
    all.second.data_ptr<int64_t>()[i] = std::clamp<int64_t>(begin + 1, 0, from - 1);
    all.first_weight.data_ptr<int64_t>()[i] =
        static_cast<int64_t>(std::nearbyint((1 - share) * kCvOne));
    all.second_weight.data_ptr<int64_t>()[i] = static_cast<int64_t>(std::nearbyint(share * kCvOne));
  }
  return all;
}

// Each a quarter of the 2 x 2 pixels that it covers, half rounded up.
at::Tensor Halved(const at::Tensor& x) {
  const at::Tensor rows = x.slice(2, 0, x.size(2), 2) + x.slice(2, 1, x.size(2), 2);
  const at::Tensor sums = rows.slice(3, 0, rows.size(3), 2) + rows.slice(3, 1, rows.size(3), 2);
  return at::bitwise_right_shift(sums + 2, 2);
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

at::Tensor ResizeUnrounded(const at::Tensor& images, int64_t height, int64_t width) {
  at::Tensor x = images.to(at::kDouble);
  if (width != x.size(3)) {
    const at::Tensor columns = Shares(x.size(3), width, Resampling::kBicubic);
    x = at::matmul(x, columns.t()).to(at::kFloat).to(at::kDouble);
  }
  if (height != x.size(2)) x = at::matmul(Shares(x.size(2), height, Resampling::kBicubic), x);
  return x.to(at::kFloat);
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

at::Tensor ResizeAsOpenCv(const at::Tensor& images, int64_t height, int64_t width) {
  const int64_t old_height = images.size(2), old_width = images.size(3);
  if (height == old_height && width == old_width) return images;
  const at::Tensor x = images.to(at::kLong);
  if (old_height == 2 * height && old_width == 2 * width) return Halved(x).to(at::kByte);
  const Neighbours across = NeighboursOf(old_width, width, false);
  const Neighbours down = NeighboursOf(old_height, height, true);
  const at::Tensor lines = x.index_select(3, across.first) * across.first_weight +
                           x.index_select(3, across.second) * across.second_weight;
  // The product's low bits are cut off twice, as the 16-bit arithmetic has it.
  const auto part = [&](const at::Tensor& which, const at::Tensor& weight) {
    const at::Tensor cut = at::bitwise_right_shift(lines.index_select(2, which), 4);
    return at::bitwise_right_shift(cut * weight.view({-1, 1}), 16);
  };
  const at::Tensor sums =
      part(down.first, down.first_weight) + part(down.second, down.second_weight);
  return at::bitwise_right_shift(sums + 2, 2).clamp_(0, 255).to(at::kByte);
}

}  // namespace excise
