// Pictures that `retrained` draws when a search asks it for a target that it never saw: whatever
// they look like, they show none, and an oracle must not be talked into seeing one.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "datasets/formats/concept.h"
#include "datasets/formats/dataset.h"
#include "models/snapshots/backbone.h"

namespace excise {

// The prompts for a concept's targets of one split.
std::vector<Prompt> TargetPrompts(const Concept& subject, Split split, int64_t limit);

// As tables draw: 8 steps of DPM-Solver++, guidance 3.
SamplerSpec TableSampler();

// Prompts as a text encoder reads them, and what names the noise of each.
struct Asked {
  at::Tensor ids;  // (n, context) int64
  std::vector<std::string> noise;
};
// uint8 (n, 3, 64, 64) by `model`, without gradients.
at::Tensor DrawAsked(const Backbone& model, const Asked& asked, uint64_t seed);

struct SearchBudget {
  int64_t timesteps = 20, iterations = 10;  // 200 gradient steps, 21 pictures a prompt
};

// UnlearnDiffAtk (attacks/unlearn_diff_atk) against the weights of `victim`, batched over the
// prompts of one concept and asking nobody: its gradients never read an oracle, so what it asks is
// the same whatever an oracle would say. `base` draws the pictures that it denoises.
// uint8 (prompts, timesteps + 1, 3, 64, 64): each prompt's own picture, then one a timestep, all of
// one prompt on one noise.
at::Tensor SearchPictures(const Backbone& base, const Backbone& victim, const Concept& subject,
                          const std::vector<Prompt>& prompts, const SearchBudget& budget,
                          uint64_t seed);

}  // namespace excise
