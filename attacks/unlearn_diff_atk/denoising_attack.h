// What UnlearnDiffAtk computes (Zhang et al., arXiv 2310.11868): a prompt's denoising loss on a
// target picture under the victim, differentiable in the prompt's tokens, and distributions over
// tokens kept on the simplex.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "attacks/attack.h"
#include "training/optimizers.h"

namespace excise {

// Each row of (..., n) moved to the nearest point of the simplex {p >= 0, sum p = 1} in Euclidean
// distance: max(x - tau, 0) with tau found by bisection.
at::Tensor ProjectToSimplex(const at::Tensor& rows);

// One index drawn from each row of `distributions` (rows, n), int64 (rows).
at::Tensor DrawTokens(const at::Tensor& distributions, Philox* rng);

// One step of `optimizer`, which holds `distribution` (rows, n), along the gradient clamped to
// [-1, 1], as hardtanh's backward pass does, and back to the simplex.
void StepOnSimplex(const at::Tensor& gradient, Optimizer* optimizer, at::Tensor distribution);

// Prefix tokens before a seed prompt's own, as the victim's text encoder reads them.
class PrefixedPrompt {
 public:
  PrefixedPrompt(const Backbone& victim, const Prompt& seed, const std::vector<int64_t>& usable,
                 int64_t prefix_len);
  int64_t vocabulary() const { return usable_.size(0); }
  // `indices` into the usable tokens, (prefix) int64 -> ids (1, context).
  at::Tensor Ids(const at::Tensor& indices) const;
  // Token embeddings (1, context, width) with the prefix given as weights over the usable tokens,
  // (prefix, usable), differentiable in them; `ids` as of Ids.
  at::Tensor Embed(const at::Tensor& weights, const at::Tensor& ids) const;
  // The decoded string of prefix and seed, which is what gets evaluated, with its ids.
  Prompt Candidate(std::string_view attack, const at::Tensor& indices, int64_t index) const;

 private:
  at::Tensor Tokens(const at::Tensor& indices) const;

  const Backbone& victim_;
  const Prompt& seed_;
  at::Tensor usable_, seed_ids_, table_;
  int64_t length_;
};

// Where on the victim's way from noise to picture a prompt is scored.
struct DenoisingPoint {
  int64_t step = 0;     // the sampler's; only where hooks take part
  double timestep = 0;  // the U-Net's
  double signal = 1, noise = 0;
};

class DenoisingObjective {
 public:
  // `picture` float (1, 3, h, w) in [0,1]. `adaptive`: the victim's hooks are looked at, where it
  // has any; else its weights alone, as published.
  DenoisingObjective(Target& target, const at::Tensor& picture, bool adaptive);

  // `n` points: of the timesteps (j + 1/2) T / n, rising; with hooks, the sampler's nearest steps.
  std::vector<DenoisingPoint> Points(int64_t n) const;

  struct Terms {
    // Scalar: mean squared error of the noise that the weights predict, without guidance.
    at::Tensor denoising;
    // The same of what the hooks make of one of the sampler's steps, with guidance, and the alarms
    // of their filter, on the picture that it leads to, and of their text margin. Scalars, or both
    // undefined where hooks are not looked at.
    at::Tensor through, alarm;
    // denoising + lambda (through + alarm)
    at::Tensor Total(double lambda) const;
  };
  // Of one prompt, mean over the rows of `noise` (draws, channels, h, w). `token_embeddings` (1,
  // context, width) and `ids` (1, context) as ClipTextForward takes them. Counts U-Net and text
  // evaluations in the target's ledger.
  Terms Score(const at::Tensor& token_embeddings, const at::Tensor& ids,
              const DenoisingPoint& point, const at::Tensor& noise) const;
  // Unit normal, of the shape that Score takes.
  at::Tensor DrawNoise(int64_t draws, Philox* rng) const;

  bool adaptive() const { return hooks_ != nullptr; }

 private:
  // states (draws, tokens, width) of `token_embeddings` and `ids`, a row of each.
  at::Tensor PredictThrough(const at::Tensor& states, const at::Tensor& token_embeddings,
                            const at::Tensor& ids, const DenoisingPoint& point,
                            const at::Tensor& input) const;
  at::Tensor Alarms(const TextBatch& text, const DenoisingPoint& point, const at::Tensor& input,
                    const at::Tensor& prediction) const;

  Target& target_;
  const Backbone& victim_;
  const Hooks* hooks_;  // null: not asked for, or there are none
  SchedulerConfig scheduler_;
  at::Tensor x0_, empty_states_;
};

}  // namespace excise
