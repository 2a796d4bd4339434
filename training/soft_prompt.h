// Prompts of which some tokens are embeddings that gradients move: soft prompts (Lester et al.,
// EMNLP 2021, arXiv 2104.08691), textual inversion (Gal et al., ICLR 2023, arXiv 2208.01618) and
// projected gradient on embeddings (Madry et al., ICLR 2018, arXiv 1706.06083).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "models/snapshots/backbone.h"
#include "training/diffusion.h"

namespace excise {

// start, ids, end and padding to `context` for every row of `ids` (n, length) int64. Throws
// UsageError when they do not fit.
at::Tensor FrameIds(const Tokenizer& tokenizer, const at::Tensor& ids, int64_t context);

// A text with a gap for embeddings: a prefix, a suffix, a placeholder ("a photo of *"), or all.
struct PromptGap {
  at::Tensor ids;        // (1, context) int64; in the gap stands a token that is not special
  int64_t position = 1;  // of the gap's first token
  int64_t length = 0;
};
// `before` and `after` are tokenised apart. Throws UsageError when the three do not fit.
PromptGap MakePromptGap(const Tokenizer& tokenizer, const std::string& before,
                        const std::string& after, int64_t length, int64_t context);

// `embeddings` (1 | n, tokens, hidden) with `soft` (1 | n, length, hidden) in place of the tokens
// from `position` on: (n, tokens, hidden). Differentiable in both.
at::Tensor PlaceTokens(const at::Tensor& embeddings, const at::Tensor& soft, int64_t position);

// Text states (n, tokens, width) of the text whose gap `soft` (n, gap.length, hidden) fills, as
// EncodeText has them. Differentiable in `soft`.
at::Tensor EncodeSoftPrompt(const Backbone& model, const PromptGap& gap, const at::Tensor& soft,
                            const Hooks* hooks = nullptr);

// What textual inversion minimises: DenoisingLosses (batch) of `model` for pictures' scaled latents
// (batch, channels, h, w) under that text; `soft` (1 | batch, gap.length, hidden). A step is an
// Optimizer's, on the gradient of their mean.
at::Tensor InversionLosses(const Backbone& model, const PromptGap& gap, const at::Tensor& soft,
                           const at::Tensor& latents, const DiffusionDraw& draw,
                           LayerHooks* hooks = nullptr);

// How far a row of `delta` (n, ...) may be from 0, measured over all its numbers.
struct Ball {
  std::string norm = "l2";  // l2 | linf
  double radius = 1;
};
// The nearest point of the ball, row by row. Throws UsageError for another norm or radius < 0.
at::Tensor ProjectToBall(const at::Tensor& delta, const Ball& ball);
// One step of length `step` (in the ball's norm) along the steepest descent, then back into the
// ball. A row whose gradient is zero stays. No gradient passes.
at::Tensor ProjectedStep(const at::Tensor& delta, const at::Tensor& gradient, const Ball& ball,
                         double step);

}  // namespace excise
