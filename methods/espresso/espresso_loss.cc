#include "methods/espresso/espresso_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/acos.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "methods/clip_filter.h"
#include "models/nets/nn.h"
#include "training/losses.h"

namespace excise {
namespace {

at::Tensor Norms(const at::Tensor& x) { return x.norm(2, {-1}); }

// (batch, texts): one difference of logits a text.
at::Tensor Margins(const std::string& rule, const at::Tensor& unit_images,
                   const ConceptTexts& texts, double scale) {
  const at::Tensor unacceptable = texts.unacceptable.to(unit_images.options());
  const at::Tensor acceptable = texts.acceptable.to(unit_images.options());
  if (rule == "softmax") {
    return (at::matmul(unit_images, unacceptable.t()) - at::matmul(unit_images, acceptable.t())) *
           scale;
  }
  if (rule != "projection") {
    throw UsageError(
        fmt::format("espresso: '{}' is no rule; there are softmax, projection.", rule));
  }
  const at::Tensor direction = nn::Normalised(unacceptable - acceptable);  // (texts, p)
  const at::Tensor projected =
      at::matmul(unit_images, direction.t()).unsqueeze(-1) * direction;  // (batch, texts, p)
  return Norms(projected - acceptable) - Norms(projected - unacceptable);
}

at::Tensor CrossEntropy(const at::Tensor& logits) {
  return CrossEntropyLosses(logits, at::arange(logits.size(0), at::kLong).to(logits.device()))
      .mean();
}

// Rows: pictures; columns: texts.
at::Tensor Logits(const at::Tensor& images, const at::Tensor& texts, double scale) {
  return at::matmul(images, texts.t()) * scale;
}

at::Tensor Contrast(const at::Tensor& images, const at::Tensor& texts, double scale) {
  const at::Tensor logits = Logits(images, texts, scale);
  return CrossEntropy(logits) + CrossEntropy(logits.t());
}

}  // namespace

at::Tensor EspressoMargin(const std::string& rule, const at::Tensor& unit_images,
                          const ConceptTexts& texts, double scale) {
  return Margins(rule, unit_images, texts, scale).amax(1);
}

at::Tensor EspressoOppositesLoss(const EspressoPairs& pairs, double scale, double alpha) {
  const auto& [xu, xa, pu, pa] = pairs;
  const at::Tensor sum = Contrast(xu, pu, scale) - Contrast(xa, pu, scale) +
                         Contrast(xa, pa, scale) - Contrast(xu, pa, scale) -
                         (pu - pa).square().sum();
  return sum * (alpha / static_cast<double>(pu.size(0)));
}

at::Tensor ReleasedOppositesLoss(const EspressoPairs& pairs, double scale, double alpha) {
  const auto& [xu, xa, pu, pa] = pairs;
  const at::Tensor a = CrossEntropy(Logits(xu, pu, scale));      // pictures xu over texts pu
  const at::Tensor b = CrossEntropy(Logits(xu, pu, scale).t());  // texts pu over pictures xu
  const at::Tensor c = CrossEntropy(Logits(xa, pu, scale));      // pictures xa over texts pu
  const at::Tensor d = CrossEntropy(Logits(xu, pa, scale).t());  // texts pa over pictures xu
  const at::Tensor sum = (a + b) - (c + b) + (c + d) - (a + d) - (pu - pa).square().sum();
  return sum * (alpha / static_cast<double>(pu.size(0)));
}

at::Tensor EspressoDistanceLoss(const at::Tensor& unacceptable, const at::Tensor& acceptable) {
  return (unacceptable - acceptable).norm().neg();
}

at::Tensor ReleasedDistanceLoss(const at::Tensor& unacceptable, const at::Tensor& acceptable) {
  const at::Tensor difference = unacceptable - acceptable;
  return (difference / difference.norm(2, {-1}, /*keepdim=*/true)).norm().neg();
}

at::Tensor PublishedRadius(const at::Tensor& p, const at::Tensor& norms, double scale) {
  return (1 - scale / (scale + 2 * (p - 0.5).abs())) * norms;
}

at::Tensor BoundaryDistance(const at::Tensor& embeds, const ConceptTexts& texts, double scale,
                            double threshold) {
  const at::Tensor x = embeds.to(at::kDouble);
  const at::Tensor norms = Norms(x);
  const at::Tensor w =
      (texts.unacceptable - texts.acceptable).to(at::kDouble).to(embeds.device());  // (texts, p)
  const double logit = std::log(threshold / (1 - threshold));
  const at::Tensor lengths = Norms(w).clamp_min(1e-300);
  const at::Tensor cosines = at::matmul(nn::Normalised(x), (w / lengths.unsqueeze(-1)).t());
  const at::Tensor edge = logit / (scale * lengths);  // cosine of the boundary, (texts)
  const at::Tensor angle =
      (cosines.clamp(-1, 1).acos() - edge.clamp(-1, 1).acos()).abs().clamp_max(std::acos(0.0));
  at::Tensor distances = angle.sin();  // (batch, texts), of |x|
  distances =
      at::where(edge.abs().ge(1).expand_as(distances), at::full_like(distances, 1.0), distances);
  const at::Tensor over = (cosines * (scale * lengths)).gt(logit);
  const at::Tensor farthest = at::where(over, distances, at::full_like(distances, 0.0)).amax(1);
  return (at::where(over.any(1), farthest, distances.amin(1)) * norms).to(at::kFloat);
}

}  // namespace excise
