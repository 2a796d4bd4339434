// Texts and pictures as points of the space that both towers of a CLIP share: (n, projection), in
// the weights' dtype, not normalised (nn::Normalised does that). Differentiable; callers that need
// no gradient hold a NoGrad.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "models/nets/clip.h"
#include "models/snapshots/backbone.h"

namespace excise {

// How much of a tower's last layer is computed. Both give the same embedding up to rounding, the
// second for less work, so a caller's choice is part of its numbers.
enum class ClipPass { kAllTokens, kPooledToken };

// Token embeddings (n, tokens, hidden) before positions are added; `ids` (n, tokens) int64 only say
// where the end token stands.
at::Tensor EmbedTokens(const ClipTextConfig& config, const StateDict& weights,
                       const at::Tensor& token_embeddings, const at::Tensor& ids,
                       ClipPass pass = ClipPass::kAllTokens, LayerHooks* hooks = nullptr);
// ids (n, tokens) int64, with start and end token.
at::Tensor EmbedIds(const ClipTextConfig& config, const StateDict& weights, const at::Tensor& ids,
                    ClipPass pass = ClipPass::kAllTokens, LayerHooks* hooks = nullptr);
// pixels (n, 3, size, size) as ClipPreprocess gives them.
at::Tensor EmbedPixels(const ClipVisionConfig& config, const StateDict& weights,
                       const at::Tensor& pixels, ClipPass pass = ClipPass::kAllTokens,
                       LayerHooks* hooks = nullptr);

// Texts, padded to the encoder's context.
at::Tensor EmbedTexts(const ClipModel& clip, const std::vector<std::string>& texts);
// Pictures in [0,1], (n, 3, h, w) of any size, preprocessed in float32.
at::Tensor EmbedPictures(const ClipModel& clip, const at::Tensor& images);

}  // namespace excise
