// What searches over a text encoder's own tokens share: which may be used, and which of them is
// nearest to an embedding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/random.h"
#include "models/formats/tokenizer.h"
#include "models/tensors/state_dict.h"

namespace excise {

// Tokens that a prompt may be made of, ascending; special ones never.
//   "all"        every other token
//   "printable"  those that decode alone to valid UTF-8 without control characters (a lone byte of
//                a longer character cannot be typed)
//   "unlisted"   printable ones that hold no word of a name of `listed` and, of three letters or
//                more, are no part of one: what passes a block-list of these names
// Throws Error when there is none.
std::vector<int64_t> UsableTokens(const Tokenizer& tokenizer, const std::string& choice,
                                  const std::vector<std::string>& listed);

// Usable tokens as rows of an encoder's embedding table.
class TokenTable {
 public:
  // Refers to `text_encoder`. `usable` as UsableTokens has it.
  TokenTable(const StateDict& text_encoder, std::vector<int64_t> usable);

  // (rows, length) uniform usable ids.
  at::Tensor RandomIds(int64_t rows, int64_t length, Philox* rng) const;
  // ids (rows, length) -> token embeddings (rows, length, hidden).
  at::Tensor Embed(const at::Tensor& ids) const;
  // The usable token nearest by cosine to each of (rows, length, hidden): ids. No gradient.
  at::Tensor Nearest(const at::Tensor& embeddings) const;
  // For each of `directions` (length, hidden) the k usable tokens, or all, whose embeddings reach
  // furthest along it, best first: ids (length, k). No gradient.
  at::Tensor Furthest(const at::Tensor& directions, int64_t k) const;

 private:
  const StateDict& text_encoder_;
  std::vector<int64_t> usable_;
  at::Tensor usable_ids_;  // (usable)
  at::Tensor directions_;  // (usable, hidden), normalised token embeddings
};

}  // namespace excise
