#include "methods/espresso/espresso_loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/acos.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softplus.h>
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

// (batch, texts, against): one difference of logits a pair of texts.
at::Tensor Margins(const std::string& rule, const at::Tensor& unit_images,
                   const ConceptTexts& texts, double scale) {
  const at::Tensor unacceptable = texts.unacceptable.to(unit_images.options());
  const at::Tensor acceptable = texts.acceptable.to(unit_images.options());
  // x . t for every row t of every text's list.
  const auto dots = [&](const at::Tensor& lists) {
    return at::matmul(unit_images, lists.flatten(0, 1).t())
        .view({-1, lists.size(0), lists.size(1)});
  };
  if (rule == "softmax") {
    return (at::matmul(unit_images, unacceptable.t()).unsqueeze(-1) - dots(acceptable)) * scale;
  }
  if (rule != "projection") {
    throw UsageError(
        fmt::format("espresso: '{}' is no rule; there are softmax, projection.", rule));
  }
  const at::Tensor each = unacceptable.unsqueeze(1);
  const at::Tensor direction = nn::Normalised(each - acceptable);  // (texts, against, p)
  const at::Tensor projected = dots(direction).unsqueeze(-1) * direction;
  return Norms(projected - acceptable) - Norms(projected - each);
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
  return Margins(rule, unit_images, texts, scale).amin(2).amax(1);
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

at::Tensor EspressoPicturesLoss(const std::string& rule, const at::Tensor& unacceptable_images,
                                const at::Tensor& acceptable_images, const ConceptTexts& texts,
                                double scale) {
  const auto margin = [&](const at::Tensor& images) {
    return EspressoMargin(rule, images, texts, scale);
  };
  return (at::softplus(margin(unacceptable_images).neg()).mean() +
          at::softplus(margin(acceptable_images)).mean()) /
         2;
}

at::Tensor PublishedRadius(const at::Tensor& p, const at::Tensor& norms, double scale) {
  return (1 - scale / (scale + 2 * (p - 0.5).abs())) * norms;
}

at::Tensor BoundaryDistance(const at::Tensor& embeds, const ConceptTexts& texts, double scale,
                            double threshold) {
  const at::Tensor x = embeds.to(at::kDouble);
  const at::Tensor norms = Norms(x);
  const at::Tensor w =
      (texts.unacceptable.unsqueeze(1) - texts.acceptable).to(at::kDouble).to(embeds.device());
  const double logit = std::log(threshold / (1 - threshold));
  const at::Tensor lengths = Norms(w).clamp_min(1e-300);  // (texts, against)
  const at::Tensor axes = (w / lengths.unsqueeze(-1)).flatten(0, 1).t();
  const at::Tensor cosines =
      at::matmul(nn::Normalised(x), axes).view({-1, lengths.size(0), lengths.size(1)});
  const at::Tensor edge = logit / (scale * lengths);  // cosine of the boundary
  const at::Tensor angle =
      (cosines.clamp(-1, 1).acos() - edge.clamp(-1, 1).acos()).abs().clamp_max(std::acos(0.0));
  at::Tensor pairs = angle.sin();  // of |x|, for each pair of texts
  pairs = at::where(edge.abs().ge(1).expand_as(pairs), at::full_like(pairs, 1.0), pairs);
  const at::Tensor over = (cosines * (scale * lengths)).gt(logit);
  // A text is over while all its pairs are: one pair ends that, all the others must join before.
  const at::Tensor zero = at::full_like(pairs, 0.0);
  const at::Tensor text_over = over.all(2);
  const at::Tensor distances =
      at::where(text_over, pairs.amin(2), at::where(over, zero, pairs).amax(2));
  const at::Tensor farthest = at::where(text_over, distances, zero.amax(2)).amax(1);
  return (at::where(text_over.any(1), farthest, distances.amin(1)) * norms).to(at::kFloat);
}

}  // namespace excise
