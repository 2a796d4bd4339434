// Token states beside pooled embeddings. Safe-CLIP's eight terms read one token of a text, the end
// token; a diffusion model's U-Net reads the last layer at every position, the padding included.
// Not in the paper.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "methods/safe_clip/safe_clip_data.h"
#include "models/nets/hooks.h"

namespace excise {

// Two more terms, each the eight terms' first or second on token states.
struct TokenStateTerms {
  double hold = 0;      // weight of H(t) to H0(t) and H("") to H0(""); the latter is for guidance
  double redirect = 0;  // weight of H(t*) to H0(t), position by position
  int64_t texts = 4;    // of a batch that these terms read, at most
  bool on() const { return hold > 0 || redirect > 0; }
};

// sum |states - original|^2 / sum |original|^2 over positions and widths: (texts, tokens, hidden)
// -> (texts). 0 where nothing moved, 1 where a text's states are as far from the original's as 0
// is.
at::Tensor TokenStateDrift(const at::Tensor& states, const at::Tensor& original);

// hold * mean drift of the batch's first `texts` safe texts and the empty prompt (1, tokens)
// + redirect * mean drift of as many unsafe texts from the original states of their safe ones. A
// scalar; `hooks` act on `tuned` alone. Needs terms.on().
at::Tensor TokenStateLoss(const ClipTowers& tuned, const ClipTowers& original,
                          const QuadrupletBatch& batch, const at::Tensor& empty_prompt,
                          const TokenStateTerms& terms, LayerHooks* hooks = nullptr);

}  // namespace excise
