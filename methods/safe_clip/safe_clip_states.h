// Token states beside pooled embeddings. Safe-CLIP's eight terms read one token of a text, the end
// token; a diffusion model's U-Net reads the last layer at every position, the padding included.
// Not in the paper.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/random.h"
#include "methods/safe_clip/safe_clip_data.h"
#include "models/formats/clip_config.h"
#include "models/nets/hooks.h"

namespace excise {

// Two more terms, each the eight terms' first or second on token states.
struct TokenStateTerms {
  double hold = 0;      // weight of H(t) to H0(t) and H("") to H0(""); the latter is for guidance
  double redirect = 0;  // weight of H(t*) to H0(t), position by position
  int64_t texts = 4;    // of a batch that these terms read, at most
  bool random_words = false;  // hold as many texts of random words, too
  bool on() const { return hold > 0 || redirect > 0; }
};

// sum |states - original|^2 / sum |original|^2 over positions and widths: (texts, tokens, hidden)
// -> (texts). 0 where nothing moved, 1 where a text's states are as far from the original's as 0
// is.
at::Tensor TokenStateDrift(const at::Tensor& states, const at::Tensor& original);

// (texts, tokens) int64 -> the same with half of their words drawn from the whole vocabulary: what
// a few dozen captions do not name is held by them. Start, end and padding stay.
at::Tensor WithRandomWords(const at::Tensor& ids, const ClipTextConfig& config, Philox* rng);

// hold * mean drift of the batch's first `texts` safe texts, of `random_texts` (undefined: none)
// and of the empty prompt (1, tokens)
// + redirect * mean drift of as many unsafe texts from the original states of their safe ones. A
// scalar; `hooks` act on `tuned` alone. Needs terms.on().
at::Tensor TokenStateLoss(const ClipTowers& tuned, const ClipTowers& original,
                          const QuadrupletBatch& batch, const at::Tensor& empty_prompt,
                          const TokenStateTerms& terms, LayerHooks* hooks = nullptr,
                          const at::Tensor& random_texts = {});

}  // namespace excise
