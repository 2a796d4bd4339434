// Two denoising streams from the same noise, for the prompt and for a safe embedding, and their
// weighted sum: the hooks of method `latent_blend`.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "methods/latent_blend/latent_blend_detectors.h"
#include "models/formats/clip_config.h"
#include "models/nets/hooks.h"
#include "models/tensors/state_dict.h"

namespace excise {

struct BlendSettings {
  bool independent = false;  // the safe stream has latents of its own
  enum class Quantity { kLatent, kX0, kNoise, kNearest } quantity = Quantity::kLatent;
  enum class Schedule { kConstant, kLinear, kCosine } schedule = Schedule::kConstant;
  bool renormalise = false;
  double weight = 1;            // w, in [0, 1]
  double global_context = 0;    // tau_gc, the share of the steps that the prompt lays out alone
  double settle_at = 0;         // kNearest: share of the steps after tau_gc that sum predictions
  double text_threshold = 0;    // of TextDetector's score
  double latent_threshold = 0;  // of LatentDetector's score

  // Whether any of `steps` steps blends anything.
  bool Acts() const { return weight > 0 && global_context < 1; }
};

// w at step `i` of the `n` steps that blend: constant; or rising to w at the last one, w (i + 1) /
// n (linear) or w (1 - cos(pi (i + 1) / n)) / 2 (cosine).
double BlendWeight(const BlendSettings& settings, int64_t i, int64_t n);

// (1 - w) prompt + w safe, for every picture with its own w: (batch, channels, h, w) twice, weights
// (batch). Weights of 0 and 1 return that side bit for bit. With `renormalise` the result is scaled
// about its mean until its standard deviation is (1 - w) sd(prompt) + w sd(safe), since the average
// of two streams that have parted varies less than either.
at::Tensor BlendStreams(const at::Tensor& prompt, const at::Tensor& safe, const at::Tensor& weights,
                        bool renormalise);

// Which of two streams a picture that is being drawn already resembles, (batch) bool: true where
// the safe one's prediction, without guidance, is nearer to the empty prompt's than the prompt's
// is. All (batch, channels, h, w). What guidance adds, e_c - e_empty, is in proportion to the
// gradient of log p(c | x), which vanishes where x is a picture of c (Ho and Salimans, arXiv
// 2207.12598).
at::Tensor NearerToSafe(const at::Tensor& empty, const at::Tensor& prompt, const at::Tensor& safe);

// Where the safe stream's text states come from: fixed ones, or another text encoder's reading of
// the prompt itself.
class SafeText {
 public:
  explicit SafeText(at::Tensor states) : fixed_(std::move(states)) {}  // (1, tokens, width)
  SafeText(ClipTextConfig config, StateDict encoder)
      : config_(std::move(config)), encoder_(std::move(encoder)) {}
  // (batch, tokens, width) on the device and in the type of batch.prompt_states. Throws Error when
  // the prompt itself is to be read and `batch` does not hold its tokens.
  at::Tensor States(const GuidanceBatch& batch) const;

 private:
  at::Tensor fixed_;
  ClipTextConfig config_;
  StateDict encoder_;
};

// Hooks that blend every picture, or those that a detector fires for.
std::shared_ptr<const Hooks> MakeBlendHooks(const BlendSettings& settings, SafeText safe,
                                            std::optional<TextDetector> text,
                                            std::optional<LatentDetector> latent);

}  // namespace excise
