// Embeddings of the reference CLIP for metrics.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "metrics/metric.h"

namespace excise {

// The reference CLIP, or an Error that names the metric that needs it.
const ClipModel& ReferenceClip(const MetricModels& models, std::string_view metric);

// What parameter `clip` of a metric chooses among.
inline const std::vector<std::string> kClipChoices = {"reference", "base", "independent"};
inline constexpr const char* kClipHelp =
    "whose CLIP: one that no method or attack sees, the unmodified backbone's own, or one of other "
    "weights with its own tokenizer";
// The CLIP of that name, or an Error that names the metric that asked.
const ClipModel& ChosenClip(const MetricModels& models, const std::string& choice,
                            std::string_view metric);

// What a metric that takes ChosenClip(choice) declares in its traits: "reference_clip".
std::string ClipOfChoice(const std::string& choice);

// What the user gets to see: the picture, or where it is blocked and `replacement` is wanted, what
// is delivered instead. Undefined: nothing.
at::Tensor DeliveredImage(const Sample& sample, bool replacement);

// image uint8 (3, h, w) -> normalised embedding (projection). One picture a call: a batch would
// let the sum over a row depend on how samples were split. Throws Error when it is not finite.
at::Tensor ImageEmbedding(const ClipModel& clip, const at::Tensor& image);

// Normalised embeddings (texts, projection). Throws Error when they are not finite.
at::Tensor TextEmbeddings(const ClipModel& clip, const std::vector<std::string>& texts);

// exp(logit_scale), by which CLIP multiplies cosines.
double LogitScale(const ClipModel& clip);

}  // namespace excise
