#include "methods/latent_blend/latent_blend_detectors.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scalar_tensor.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace excise {
namespace {

constexpr int64_t kMostCells = 8;  // a side

// (batch, names): cosines of f - anchor with each name's direction.
at::Tensor Cosines(const at::Tensor& features, const at::Tensor& anchors,
                   const at::Tensor& directions) {
  const at::Tensor from_anchor = features.unsqueeze(1) - anchors.unsqueeze(0);
  const at::Tensor length = from_anchor.norm(2, -1).clamp_min(1e-12);
  return (from_anchor * directions.unsqueeze(0)).sum(-1) / length;
}

Eigen::MatrixXd ToEigen(const at::Tensor& matrix) {
  const at::Tensor values = matrix.to(at::kCPU, at::kDouble).contiguous();
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<const RowMajor>(values.data_ptr<double>(), values.size(0), values.size(1));
}

}  // namespace

at::Tensor TextDetector::Features(const at::Tensor& states) {
  return states.to(at::kFloat).mean(1);
}

TextDetector TextDetector::Fit(const std::vector<Example>& concepts) {
  std::vector<at::Tensor> anchors, directions, halfway;
  for (const Example& example : concepts) {
    const at::Tensor from_anchor = example.names - example.anchor;
    const at::Tensor length = from_anchor.norm(2, -1, /*keepdim=*/true);
    if (length.min().item<double>() < 1e-6) {
      throw Error(
          "latent_blend: the text detector cannot tell a name of the concept from its anchor, "
          "because the text encoder reads both alike. Give the concept another anchor, or set "
          "detectors to none or latent.");
    }
    anchors.push_back(example.anchor.expand_as(example.names));
    directions.push_back(from_anchor / length);
    const auto best = [&](const at::Tensor& features) {
      return Cosines(features, anchors.back(), directions.back()).amax(1);
    };
    const double lowest = best(example.targets).min().item<double>();
    const double highest = best(example.harmless).max().item<double>();
    halfway.push_back(at::full({example.names.size(0)}, (lowest + highest) / 2, at::kFloat));
  }
  TextDetector detector;
  detector.anchors_ = at::cat(anchors).contiguous();
  detector.directions_ = at::cat(directions);
  detector.halfway_ = at::cat(halfway);
  return detector;
}

at::Tensor TextDetector::Score(const at::Tensor& states) const {
  const at::Device device = states.device();
  return (Cosines(Features(states), anchors_.to(device), directions_.to(device)) -
          halfway_.to(device))
      .amax(1);
}

void TextDetector::Save(StateDict* out) const {
  out->Set("text_detector.anchors", anchors_);
  out->Set("text_detector.directions", directions_);
  out->Set("text_detector.halfway", halfway_);
}

std::optional<TextDetector> TextDetector::Load(const StateDict& saved) {
  if (!saved.Contains("text_detector.anchors")) return std::nullopt;
  TextDetector detector;
  detector.anchors_ = saved.Get("text_detector.anchors");
  detector.directions_ = saved.Get("text_detector.directions");
  detector.halfway_ = saved.Get("text_detector.halfway");
  return detector;
}

at::Tensor LatentDetector::Features(const at::Tensor& x0) {
  const at::Tensor latents = x0.to(at::kFloat);
  const int64_t height = std::min(kMostCells, x0.size(2));
  const int64_t width = std::min(kMostCells, x0.size(3));
  const at::Tensor cells = at::adaptive_avg_pool2d(latents, {height, width}).flatten(1);
  return at::cat({cells, cells.square()}, 1);
}

LatentDetector LatentDetector::Fit(const at::Tensor& features, const std::vector<bool>& positive,
                                   double ridge, double position) {
  const Eigen::MatrixXd x = ToEigen(features);
  const auto n = static_cast<int64_t>(positive.size());
  const auto targets = std::count(positive.begin(), positive.end(), true);
  if (targets == 0 || targets == n || n != x.rows()) {
    throw Error(
        "latent_blend: the latent detector needs prompts for the concept and other prompts in the "
        "erase split. Give the concept a list of names to preserve, or set detectors to none or "
        "text.");
  }
  Eigen::VectorXd label(n), share(n);
  for (int64_t i = 0; i < n; ++i) {
    label[i] = positive[i] ? 1 : -1;
    share[i] = 0.5 / static_cast<double>(positive[i] ? targets : n - targets);
  }
  const Eigen::RowVectorXd mean = share.transpose() * x;
  const Eigen::MatrixXd centred = x.rowwise() - mean;
  const Eigen::RowVectorXd variance = share.transpose() * centred.cwiseAbs2();
  // A cell that never changes says nothing; its deviation must not become a divisor of 0.
  const Eigen::RowVectorXd deviation = variance.cwiseSqrt().array() + 1e-6;
  const Eigen::MatrixXd z = centred.array().rowwise() / deviation.array();
  Eigen::MatrixXd normal = z.transpose() * share.asDiagonal() * z;
  normal.diagonal().array() += ridge;
  const Eigen::VectorXd solution =
      normal.ldlt().solve(z.transpose() * share.cwiseProduct(label)).eval();
  const Eigen::VectorXd weight = solution.cwiseQuotient(deviation.transpose());

  LatentDetector detector;
  detector.weight_ = at::empty({x.cols()}, at::kFloat);
  for (int64_t i = 0; i < x.cols(); ++i) {
    detector.weight_.data_ptr<float>()[i] = static_cast<float>(weight[i]);
  }
  detector.bias_ = -mean.dot(weight);
  detector.position_ = position;
  return detector;
}

at::Tensor LatentDetector::Score(const at::Tensor& x0) const {
  const at::Tensor features = Features(x0);
  if (features.size(1) != weight_.size(0)) {
    throw Error(
        "latent_blend: the latent detector was fitted on latents of another size than those that "
        "are drawn. Draw at the size that the snapshot's U-Net names (sample_size).");
  }
  return features.matmul(weight_.to(features.device())) + bias_;
}

int64_t LatentDetector::StepAt(double position, int64_t steps) {
  const auto step = static_cast<int64_t>(std::floor(position * static_cast<double>(steps)));
  return std::max<int64_t>(0, std::min(step, steps - 2));
}

void LatentDetector::Save(StateDict* out) const {
  out->Set("latent_detector.weight", weight_);
  out->Set("latent_detector.bias", at::scalar_tensor(bias_, at::kDouble));
  out->Set("latent_detector.position", at::scalar_tensor(position_, at::kDouble));
}

std::optional<LatentDetector> LatentDetector::Load(const StateDict& saved) {
  if (!saved.Contains("latent_detector.weight")) return std::nullopt;
  LatentDetector detector;
  detector.weight_ = saved.Get("latent_detector.weight");
  detector.bias_ = saved.Get("latent_detector.bias").item<double>();
  detector.position_ = saved.Get("latent_detector.position").item<double>();
  return detector;
}

}  // namespace excise
