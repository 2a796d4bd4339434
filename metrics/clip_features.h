// Embeddings of the reference CLIP for metrics.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "metrics/metric.h"

namespace excise {

// The reference CLIP, or an Error that names the metric that needs it.
const ClipModel& ReferenceClip(const MetricModels& models, std::string_view metric);

// image uint8 (3, h, w) -> normalised embedding (projection). One picture a call: a batch would
// let the sum over a row depend on how samples were split.
at::Tensor ImageEmbedding(const ClipModel& clip, const at::Tensor& image);

// Normalised embeddings (texts, projection).
at::Tensor TextEmbeddings(const ClipModel& clip, const std::vector<std::string>& texts);

// exp(logit_scale), by which CLIP multiplies cosines.
double LogitScale(const ClipModel& clip);

}  // namespace excise
