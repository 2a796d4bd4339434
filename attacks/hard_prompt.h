// What attacks share that search for token sequences with a surrogate CLIP: what a sequence should
// mean, how it is scored, and how it becomes a prompt.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string_view>
#include <vector>

#include "attacks/attack.h"
#include "training/usable_tokens.h"

namespace excise {

// What an attack does to pictures, float (n, 3, h, w) in [0,1], before they are embedded.
using PictureEdit = std::function<at::Tensor(const at::Tensor&)>;

// Normalised image embeddings (n, projection) of `n` pictures that the unmodified model draws for
// `prompt`, edited where `edit` is given.
at::Tensor ImageTargets(Target& target, const Prompt& prompt, int64_t n,
                        const PictureEdit& edit = nullptr);
// Normalised text embedding (1, projection) of the prompt's text.
at::Tensor TextTarget(Target& target, const Prompt& prompt);

// Scores sequences of `length` tokens by their cosine with target embeddings. The text encoder
// reads [start, tokens, end] only: attention is causal, so what would follow changes nothing.
// `targets`: (targets, projection), or (lanes, targets, projection) for prompts that are searched
// together, a lane each.
class HardPromptScorer {
 public:
  // Throws UsageError when the encoder's context is too short.
  HardPromptScorer(const ClipModel& clip, at::Tensor targets, std::vector<int64_t> usable,
                   int64_t length);

  const TokenTable& tokens() const { return tokens_; }
  // `embeddings` (restarts, length, hidden) -> cosines (restarts, targets); with lanes (lanes *
  // restarts, length, hidden) -> (lanes, restarts, targets). Differentiable in the embeddings.
  at::Tensor Similarities(const at::Tensor& embeddings) const;

 private:
  const ClipModel& clip_;
  at::Tensor targets_;  // (targets, projection) or (lanes, targets, projection)
  TokenTable tokens_;
  at::Tensor frame_ids_;  // (1, length + 2): start, filler, end
  at::Tensor frame_;      // their embeddings
};

// `seed` with these tokens instead of its text: what is evaluated is the decoded string, its ids
// are the tokenizer's, and round_trip says whether the string comes back as them.
Prompt PromptOfTokens(const Prompt& seed, std::string_view attack, int64_t index,
                      const Tokenizer& tokenizer, std::vector<int64_t> ids);

// Keeps the best sequence so far: appends a candidate to `trajectory` when the best of `scores`
// (restarts) beats the last one.
void KeepBest(std::string_view attack, const Tokenizer& tokenizer, const Prompt& seed,
              const at::Tensor& ids, const at::Tensor& scores, const Ledger& ledger,
              Trajectory* trajectory);

}  // namespace excise
