// What UnlearnDiffAtk (Zhang et al., arXiv 2310.11868) and Prompting4Debugging (Chin et al., arXiv
// 2309.06135) compute: a prompt's denoising loss on a target picture under the victim,
// differentiable in the prompt's tokens; and distributions over tokens kept on the simplex.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "attacks/attack.h"
#include "training/optimizers.h"

namespace excise {

// Each row of (..., n) moved to the nearest point of the simplex {p >= 0, sum p = 1} in Euclidean
// distance: max(x - tau, 0) with the one tau for which that sums to 1.
at::Tensor ProjectToSimplex(const at::Tensor& rows);

// One index drawn from each row of `distributions` (rows, n), int64 (rows).
at::Tensor DrawTokens(const at::Tensor& distributions, Philox* rng);

// One step of `optimizer`, which holds `distribution` (..., n), along the gradient clamped to
// [-1, 1], as hardtanh's backward pass does, and back to the simplex.
void StepOnSimplex(const at::Tensor& gradient, Optimizer* optimizer, at::Tensor distribution);

// Prefix tokens before seed prompts' own, a lane each, as the victim's text encoder reads them.
class PrefixedPrompts {
 public:
  PrefixedPrompts(const Backbone& victim, std::vector<Prompt> seeds,
                  const std::vector<int64_t>& usable, int64_t prefix_len);
  int64_t vocabulary() const { return usable_.size(0); }
  // `indices` into the usable tokens, (lanes, prefix) int64 -> ids (lanes, context).
  at::Tensor Ids(const at::Tensor& indices) const;
  // Token embeddings (lanes, context, width) with the prefixes given as weights over the usable
  // tokens, (lanes, prefix, usable), differentiable in them.
  at::Tensor Embed(const at::Tensor& weights) const;
  // The decoded string of a lane's prefix and seed, which is what gets evaluated, with its ids;
  // `indices` (prefix).
  Prompt Candidate(std::string_view attack, size_t lane, const at::Tensor& indices,
                   int64_t index) const;

 private:
  const Backbone& victim_;
  std::vector<Prompt> seeds_;
  at::Tensor usable_, table_;
  at::Tensor framed_, embeddings_;  // with any prefix
  int64_t length_;
};

// Where on the victim's way from noise to picture a prompt is scored.
struct DenoisingPoint {
  int64_t step = 0;     // the sampler's; only where hooks take part
  double timestep = 0;  // the U-Net's
  double signal = 1, noise = 0;
};

// Of a prompt in each of several lanes; a lane's numbers depend on its own rows alone.
class DenoisingObjective {
 public:
  // `pictures` float (lanes, 3, h, w) in [0,1], which prompts are scored against. `adaptive`: the
  // victim's hooks are looked at, where it has any; else its weights alone, as published.
  DenoisingObjective(Target& target, const at::Tensor& pictures, bool adaptive);

  // `n` points: of the timesteps (j + 1/2) T / n, rising; with hooks, the sampler's nearest steps.
  std::vector<DenoisingPoint> Points(int64_t n) const;
  // Of one timestep, in [0, num_train_timesteps); with hooks, the sampler's nearest step.
  DenoisingPoint PointAt(double timestep) const;

  // Each (lanes).
  struct Terms {
    // Mean squared error of the noise that the weights predict, without guidance.
    at::Tensor denoising;
    // The same of what the hooks make of one of the sampler's steps, with guidance, and the alarms
    // of their filter, on the picture that it leads to, and of their text margin. Both undefined
    // where hooks are not looked at.
    at::Tensor through, alarm;
    // denoising + lambda (through + alarm)
    at::Tensor Total(double lambda) const;
  };
  // `token_embeddings` (lanes, context, width) and `ids` (lanes, context) as ClipTextForward takes
  // them; `noise` (lanes x draws, channels, h, w), the draws of a lane one after another, over
  // which its terms are means. `wanted`, of the shape of `noise`, is what should be predicted in
  // its place.
  Terms Score(const at::Tensor& token_embeddings, const at::Tensor& ids,
              const DenoisingPoint& point, const at::Tensor& noise,
              const at::Tensor& wanted = {}) const;
  // The noise that `model`, of the victim's shape, predicts of the same pictures and `noise` from
  // text states (lanes, tokens, width), without guidance. No gradient.
  at::Tensor Predicted(const Backbone& model, const at::Tensor& states, const DenoisingPoint& point,
                       const at::Tensor& noise) const;
  // Unit normal, (draws, channels, h, w): a lane's share of what Score takes.
  at::Tensor DrawNoise(int64_t draws, Philox* rng) const;

  bool adaptive() const { return hooks_ != nullptr; }
  // The U-Net and text evaluations of each lane since this was asked last.
  std::vector<Ledger> TakeCosts() const;

 private:
  // Lanes from `first` on as hooks are shown them.
  struct Shown {
    int64_t first;
    at::Tensor embeddings, ids;
    ClipTextOutput text;
    at::Tensor input, wanted;
    int64_t lanes() const { return ids.size(0); }
  };
  void ScoreThrough(const Shown& shown, const DenoisingPoint& point, Terms* terms) const;
  at::Tensor PredictThrough(const Shown& shown, const DenoisingPoint& point) const;
  at::Tensor Alarms(const Shown& shown, const DenoisingPoint& point,
                    const at::Tensor& prediction) const;

  const Backbone& victim_;
  const Hooks* hooks_;  // null: not asked for, or there are none
  const SamplerSpec sampling_;
  SchedulerConfig scheduler_;
  std::unique_ptr<Sampler> sampler_;  // of which only steps and levels are wanted
  at::Tensor x0_, empty_states_;
  mutable std::vector<Ledger> costs_;
};

}  // namespace excise
