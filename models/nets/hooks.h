// Where a removal method may act inside the model while pictures are drawn. A Hooks object holds no
// state; Start() makes a Run that lives for one batch of images and is differentiable, so that
// white-box attacks see through it. A null Hooks pointer costs nothing.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace excise {

// Which rows of a batch belong to whom, in one U-Net call of a run: stream by stream, every one of
// its pictures in order. Streams are the text streams of HookRun::Rows, in that order; where Fork
// made several latent streams, each text stream holds all of them: stream = text stream * latent
// streams + latent stream.
struct RowLayout {
  int64_t step = 0;  // of the run, from 0
  int64_t streams = 1, pictures = 1;
  int64_t Row(int64_t stream, int64_t picture) const { return stream * pictures + picture; }
};

// Acts on activations, by tensor name without its suffix ("down_blocks.0.attentions.0...attn2").
class LayerHooks {
 public:
  virtual ~LayerHooks() = default;
  // Said before every U-Net call of a run. Rows are the first dimension of all that is handed over
  // then. Inside the text encoder nothing is said: rows are texts there.
  virtual void Begin(const RowLayout& /*rows*/) {}
  // Whether OnLinear / convolution / attention / skip hooks want layer `name`; asked once a call.
  virtual bool WantsLinear(const std::string&) const { return false; }
  virtual bool WantsConvolution(const std::string&) const { return false; }
  virtual bool WantsAttention(const std::string&) const { return false; }
  // Switches that layer off fused attention, so that the probabilities exist.
  virtual bool WantsProbabilities(const std::string&) const { return false; }
  virtual bool WantsSkips() const { return false; }

  // x (..., in) -> y (..., out); returns the new y.
  virtual at::Tensor OnLinear(const std::string& /*name*/, const at::Tensor& /*x*/, at::Tensor y) {
    return y;
  }
  // x (batch, in, h, w) -> y (batch, out, h', w') of a convolution of the U-Net; returns the new y.
  virtual at::Tensor OnConvolution(const std::string& /*name*/, const at::Tensor& /*x*/,
                                   at::Tensor y) {
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
  // What prompt_states were encoded from, for hooks that read the prompt with an encoder of their
  // own: (batch, tokens) int64 and, where an attack moved them away from the table's rows, the
  // tokens' embeddings (batch, tokens, hidden). Undefined where nobody knows.
  at::Tensor prompt_ids = {}, prompt_embeddings = {};
  // The first step that is taken (SamplerSpec); steps are counted from 0 all the same. A run that
  // cannot do without one before it refuses in Start, with the reason.
  int64_t first_step = 0;
};

// Where the sampler stands when the U-Net has answered: `input`, what the U-Net was given (without
// the copies for its streams), is signal x0 + noise epsilon.
struct StepPoint {
  int64_t step = 0;
  at::Tensor input;  // (latents, channels, h, w)
  double signal = 1, noise = 0;
};

// What a detector or filter says of every picture of a batch. It acts above its threshold.
struct Signal {
  at::Tensor scores;  // (batch) float32; higher means more of the concept
  double threshold = 0.5;
};
// By name: "filter", "text_detector", "latent_detector".
using Signals = std::map<std::string, Signal>;

// One batch of images under a method. Rows of all streams go through one U-Net call.
class HookRun {
 public:
  virtual ~HookRun() = default;
  // From the initial latents (batch, channels, h, w) to those of several latent streams, (streams x
  // batch, ...), stream by stream; and from the final ones back to (batch, ...). Rows and
  // predictions then have streams x batch rows, too. Default: one stream.
  virtual at::Tensor Fork(at::Tensor latents) { return latents; }
  virtual at::Tensor Join(at::Tensor latents) { return latents; }
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
  // Called before Combine with its inputs.
  virtual void Observe(const StepPoint& /*point*/, const std::vector<at::Tensor>& /*predictions*/) {
  }
  // After the sampler's update. Default: unchanged.
  virtual at::Tensor Mix(int64_t /*step*/, at::Tensor latents) { return latents; }
  // Layer hooks that are active in this run, or null.
  virtual LayerHooks* Layers() { return nullptr; }
  // What the run's detectors said of each picture, after the last step.
  virtual Signals Detected() const { return {}; }
};

// Scores a finished picture; one above the threshold is not delivered. The raw score is kept, so
// ROC curves need no rerun.
class ImageFilter {
 public:
  virtual ~ImageFilter() = default;
  // images in [0,1], (batch, 3, height, width), differentiable -> (batch). Higher means more of the
  // concept.
  virtual at::Tensor Score(const at::Tensor& images) const = 0;
  virtual double Threshold() const = 0;
  // By how much an attack has to lower a picture's alarm, (batch), differentiable: above 0 exactly
  // where the score is above the threshold. A filter whose score saturates (a probability) answers
  // before it does, else the gradient vanishes and the attack is blind. Default: their difference.
  virtual at::Tensor Margin(const at::Tensor& images) const;
  // Further numbers of every picture, (batch) float32 each, by name ("certified_radius"). They are
  // kept beside the score, with a threshold of 0, and decide nothing.
  virtual std::map<std::string, at::Tensor> Measures(const at::Tensor& /*images*/) const {
    return {};
  }
  // What is delivered instead, (3, height, width) in [0,1]; default: black.
  virtual at::Tensor Replacement(int64_t height, int64_t width) const;
};

// Prompts on their way into the U-Net, a row each, as hooks that read text see them.
struct TextBatch {
  at::Tensor ids;         // (batch, tokens) int64
  at::Tensor embeddings;  // (batch, tokens, hidden): of the tokens, before the text encoder
  at::Tensor states;      // (batch, tokens, width): behind it
  at::Tensor pooled;      // (batch, projection): normalised text embeddings of the backbone's CLIP;
                          // undefined where it has no projection
};

class Hooks {
 public:
  virtual ~Hooks() = default;
  virtual std::unique_ptr<HookRun> Start(const GuidanceBatch& /*batch*/) const {
    return std::make_unique<HookRun>();
  }
  // Whether what is computed of a picture depends on its own rows alone, whatever else is in the
  // batch. Not so where one picture decides which streams all of them have: attacks that search for
  // several prompts at once then show the run one after another.
  virtual bool RowsApart() const { return true; }
  // What acts inside the text encoder while prompts and the empty prompt are encoded, made for one
  // batch of texts; names as models/nets/clip.h has them. Null: nothing.
  virtual std::unique_ptr<LayerHooks> TextLayers() const { return nullptr; }
  virtual const ImageFilter* Filter() const { return nullptr; }
  // Whether drawing is left alone and Filter() is all there is: such pictures are drawn once, by
  // the unmodified model.
  virtual bool OnlyFilters() const { return false; }

  // For adaptive attacks that read text alone; differentiable.
  // What prompts' text states come to under these hooks, (batch, tokens, width). Undefined: nothing
  // else than themselves.
  virtual at::Tensor TextView(const TextBatch& /*text*/) const { return {}; }
  // By how much the hooks would act against prompts, (batch): above 0 they would. Undefined:
  // prompts' words alone do not decide it.
  virtual at::Tensor TextMargin(const TextBatch& /*text*/) const { return {}; }
};

}  // namespace excise
