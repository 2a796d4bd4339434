#include "training/losses.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/matmul.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "models/nets/nn.h"

namespace excise {
namespace {

void CheckShapes(const char* loss, const at::Tensor& a, const at::Tensor& b) {
  // Broadcasting would hide a wrong target behind a plausible number.
  if (a.sizes() != b.sizes() || a.dim() < 1) {
    throw Error(fmt::format("{}: shapes ({}) and ({}) must be equal, with a batch dimension", loss,
                            fmt::join(a.sizes(), ", "), fmt::join(b.sizes(), ", ")));
  }
}

at::Tensor MeanPerSample(const at::Tensor& values) {
  return values.dim() == 1 ? values : values.flatten(1).mean(1);
}

}  // namespace

at::Tensor ContrastiveLosses(const at::Tensor& image_embeds, const at::Tensor& text_embeds,
                             const at::Tensor& logit_scale) {
  CheckShapes("ContrastiveLosses", image_embeds, text_embeds);
  const at::Tensor logits =
      logit_scale * at::matmul(nn::Normalised(image_embeds), nn::Normalised(text_embeds).t());
  const at::Tensor labels =
      at::arange(logits.size(0), logits.options().dtype(at::kLong).requires_grad(false));
  return (CrossEntropyLosses(logits, labels) + CrossEntropyLosses(logits.t(), labels)) * 0.5;
}

at::Tensor CosineDistances(const at::Tensor& a, const at::Tensor& b) {
  CheckShapes("CosineDistances", a, b);
  return 1 - (nn::Normalised(a) * nn::Normalised(b)).sum(-1);
}

at::Tensor MseLosses(const at::Tensor& prediction, const at::Tensor& target) {
  CheckShapes("MseLosses", prediction, target);
  return MeanPerSample((prediction - target).square());
}

at::Tensor L1Losses(const at::Tensor& prediction, const at::Tensor& target) {
  CheckShapes("L1Losses", prediction, target);
  return MeanPerSample((prediction - target).abs());
}

at::Tensor KlLosses(const at::Tensor& mean, const at::Tensor& logvar) {
  CheckShapes("KlLosses", mean, logvar);
  const at::Tensor values = (mean.square() + logvar.exp() - 1 - logvar) * 0.5;
  return values.dim() == 1 ? values : values.flatten(1).sum(1);
}

at::Tensor CrossEntropyLosses(const at::Tensor& logits, const at::Tensor& labels,
                              double label_smoothing) {
  return at::cross_entropy_loss(logits, labels, /*weight=*/{}, at::Reduction::None,
                                /*ignore_index=*/-100, label_smoothing);
}

}  // namespace excise
