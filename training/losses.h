// Losses with one value per sample, (batch): their mean over a batch is the mean of the means of
// equal micro-batches, so that accumulated gradients equal the big batch's. Only the contrastive
// loss ties samples together.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace excise {

// InfoNCE in both directions (CLIP; Radford et al., arXiv 2103.00020): the mean of the cross
// entropies of image -> text and text -> image over the batch's pairs. Embeddings (batch, dim) are
// normalised here; `logit_scale` is the factor on the cosine (exp of HF's tensor), a scalar tensor.
// Returns (batch): half of the two cross entropies of each pair. It needs the whole batch at once:
// micro-batches see fewer negatives and are another loss.
at::Tensor ContrastiveLosses(const at::Tensor& image_embeds, const at::Tensor& text_embeds,
                             const at::Tensor& logit_scale);
// 1 - cos(a, b) over the last dimension; (batch, dim) -> (batch).
at::Tensor CosineDistances(const at::Tensor& a, const at::Tensor& b);
// Mean squared and mean absolute error over all dimensions but the first; (batch, ...) -> (batch).
at::Tensor MseLosses(const at::Tensor& prediction, const at::Tensor& target);
at::Tensor L1Losses(const at::Tensor& prediction, const at::Tensor& target);
// KL(N(mean, exp(logvar)) || N(0, 1)) in nats, summed over all dimensions but the first.
at::Tensor KlLosses(const at::Tensor& mean, const at::Tensor& logvar);
// Cross entropy of logits (batch, classes) with int64 labels (batch), in nats.
at::Tensor CrossEntropyLosses(const at::Tensor& logits, const at::Tensor& labels,
                              double label_smoothing = 0);

}  // namespace excise
