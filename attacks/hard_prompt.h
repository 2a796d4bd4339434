// What attacks share that search for token sequences with a surrogate CLIP: which tokens may be
// used, how a sequence is scored, and how it becomes a prompt.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>
#include <vector>

#include "attacks/attack.h"

namespace excise {

// Tokens that an attack may use, ascending; special ones never.
//   "all"        every other token
//   "printable"  those that decode alone to valid UTF-8 without control characters (a lone byte of
//                a longer character cannot be typed)
//   "unlisted"   printable ones that are no part of a known name of three letters or more and hold
//                no word of one: what passes a block-list of the erased names
std::vector<int64_t> UsableTokens(const Tokenizer& tokenizer, const std::string& choice,
                                  const Concept& subject);

// Normalised image embeddings (n, projection) of `n` pictures that the unmodified model draws for
// `prompt`.
at::Tensor ImageTargets(TransferTarget& target, const Prompt& prompt, int64_t n);
// Normalised text embedding (1, projection) of the prompt's text.
at::Tensor TextTarget(TransferTarget& target, const Prompt& prompt);

// Scores sequences of `length` tokens by their cosine with target embeddings. The text encoder
// reads [start, tokens, end] only: attention is causal, so what would follow changes nothing.
class HardPromptScorer {
 public:
  // Throws UsageError when the encoder's context is too short.
  HardPromptScorer(const ClipModel& clip, at::Tensor targets, std::vector<int64_t> usable,
                   int64_t length);

  // (restarts, length) uniform usable ids.
  at::Tensor RandomIds(int64_t restarts, Philox* rng) const;
  // ids (restarts, length) -> token embeddings (restarts, length, hidden).
  at::Tensor Embed(const at::Tensor& ids) const;
  // The usable token nearest by cosine to each of (restarts, length, hidden): ids.
  at::Tensor Nearest(const at::Tensor& embeddings) const;
  // Cosines (restarts, targets), differentiable in the embeddings.
  at::Tensor Similarities(const at::Tensor& embeddings) const;

 private:
  const ClipModel& clip_;
  at::Tensor targets_;  // (targets, projection)
  std::vector<int64_t> usable_;
  at::Tensor usable_ids_;   // (usable)
  at::Tensor directions_;   // (usable, hidden), normalised token embeddings
  at::Tensor frame_ids_;    // (1, length + 2): start, filler, end
  at::Tensor start_, end_;  // (1, 1, hidden)
  int64_t length_;
};

// Keeps the best sequence so far: appends a candidate to `trajectory` when the best of `scores`
// (restarts) beats the last one. The prompt's text is the decoded string, which is what gets
// evaluated; its ids are the surrogate's, and round_trip says whether the string comes back as
// them.
void KeepBest(std::string_view attack, const Tokenizer& tokenizer, const Prompt& seed,
              const at::Tensor& ids, const at::Tensor& scores, const Ledger& ledger,
              Trajectory* trajectory);

}  // namespace excise
