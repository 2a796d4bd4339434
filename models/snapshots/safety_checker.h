// Stable Diffusion's safety checker: an image tower, texts that are looked for, a threshold for
// each.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "models/snapshots/backbone.h"
#include "models/tensors/state_dict.h"

namespace excise {

// Tensors of `texts`, under the released names: embeddings (texts, projection), thresholds (texts).
inline constexpr const char* kCheckerConcepts = "concept_embeds";
inline constexpr const char* kCheckerConceptThresholds = "concept_embeds_weights";
inline constexpr const char* kCheckerSpecial = "special_care_embeds";
inline constexpr const char* kCheckerSpecialThresholds = "special_care_embeds_weights";

struct CheckerModel {
  ClipModel clip;  // of which the image tower is there
  StateDict texts;
};

// A folder with config.json and model.safetensors. Throws Error where it is no safety checker.
CheckerModel LoadCheckerModel(const std::filesystem::path& folder);

// embeds (batch, projection), not normalised -> (batch): the largest excess of a cosine over its
// threshold, to three decimals; above 0 the picture is blocked. Where a special text is found, all
// that follows counts 0.01 more. Rounding's derivative is taken to be 1.
// Source: huggingface/diffusers @ v0.42.1, pipelines/stable_diffusion/safety_checker.py
at::Tensor CheckerExcess(const StateDict& texts, const at::Tensor& embeds);

}  // namespace excise
