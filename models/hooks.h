// Where a removal method may act inside the model while pictures are drawn. A Hooks object holds no
// state; Start() makes a Run that lives for one batch of images and is differentiable, so that
// white-box attacks see through it. A null Hooks pointer costs nothing.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace excise {

// Acts on activations, by tensor name without its suffix ("down_blocks.0.attentions.0...attn2").
class LayerHooks {
 public:
  virtual ~LayerHooks() = default;
  // Whether OnLinear / attention / skip hooks want layer `name`; asked once a call.
  virtual bool WantsLinear(const std::string&) const { return false; }
  virtual bool WantsAttention(const std::string&) const { return false; }
  // Switches that layer off fused attention, so that the probabilities exist.
  virtual bool WantsProbabilities(const std::string&) const { return false; }
  virtual bool WantsSkips() const { return false; }

  // x (..., in) -> y (..., out); returns the new y.
  virtual at::Tensor OnLinear(const std::string& /*name*/, const at::Tensor& /*x*/, at::Tensor y) {
    return y;
  }
  // q, k, v: (batch, heads, tokens, head_dim), changed in place by assignment.
  virtual void OnAttention(const std::string& /*name*/, at::Tensor* /*q*/, at::Tensor* /*k*/,
                           at::Tensor* /*v*/) {}
  // probabilities: (batch, heads, queries, keys).
  virtual at::Tensor OnProbabilities(const std::string& /*name*/, at::Tensor probabilities) {
    return probabilities;
  }
  // The attention's output before its residual, (batch, tokens, channels).
  virtual at::Tensor OnAttentionOutput(const std::string& /*name*/, at::Tensor output) {
    return output;
  }
  // hidden and skip before they are concatenated, (batch, channels, h, w).
  virtual void OnSkip(int64_t /*block*/, at::Tensor* /*hidden*/, at::Tensor* /*skip*/) {}
};

// What a Run is started with. Row tensors are (batch, tokens, width).
struct GuidanceBatch {
  at::Tensor prompt_states;  // text states of the prompts
  at::Tensor empty_states;   // text states of ""
  double guidance_scale = 1;
  int64_t num_steps = 0;
};

// One batch of images under a method. Rows of all streams go through one U-Net call.
class HookRun {
 public:
  virtual ~HookRun() = default;
  // Text states of every stream at `step`, each (batch, tokens, width). Default: {empty, prompt}
  // when the guidance scale is not 1, else {prompt}.
  virtual std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t step);
  // Noise predictions (epsilon) of the streams, in the order of Rows, to one prediction. Default:
  // classifier-free guidance. (Where a model that predicts v or x0 sees next to no signal, as at
  // the first step of a schedule with zero terminal SNR, epsilon says nothing about its prediction;
  // there the raw outputs are handed over. Sums with weights that add up to 1 mean the same for
  // both.)
  virtual at::Tensor Combine(const GuidanceBatch& batch, int64_t step,
                             const std::vector<at::Tensor>& predictions);
  // After the sampler's update. Default: unchanged.
  virtual at::Tensor Mix(int64_t /*step*/, at::Tensor latents) { return latents; }
  // Layer hooks that are active in this run, or null.
  virtual LayerHooks* Layers() { return nullptr; }
};

// Scores a prompt or a picture; threshold and replacement are data elsewhere, so ROC curves need no
// rerun. Higher means more of the concept.
class FilterHooks {
 public:
  virtual ~FilterHooks() = default;
  virtual bool FiltersPrompts() const { return false; }
  virtual bool FiltersImages() const { return false; }
  // text_states (batch, tokens, width) -> (batch).
  virtual at::Tensor FilterPrompt(const at::Tensor& /*text_states*/) const { return {}; }
  // images in [0,1], (batch, 3, height, width), differentiable -> (batch).
  virtual at::Tensor FilterImage(const at::Tensor& /*images*/) const { return {}; }
  virtual double Threshold() const { return 0.5; }
};

class Hooks {
 public:
  virtual ~Hooks() = default;
  virtual std::unique_ptr<HookRun> Start(const GuidanceBatch& /*batch*/) const {
    return std::make_unique<HookRun>();
  }
  virtual const FilterHooks* Filters() const { return nullptr; }
};

}  // namespace excise
