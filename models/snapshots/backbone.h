// The models under test: a Hugging Face snapshot folder of Stable Diffusion's shape.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "models/formats/tokenizer.h"
#include "models/nets/clip.h"
#include "models/nets/hooks.h"
#include "models/nets/unet.h"
#include "models/nets/vae.h"
#include "models/samplers/scheduler.h"
#include "models/tensors/compute.h"
#include "models/tensors/safetensors.h"
#include "models/tensors/state_dict.h"

namespace excise {

// Copies share every tensor; a removal method's result is a copy with some tensors replaced.
struct Backbone {
  std::string name;
  std::filesystem::path folder;
  ClipConfig clip;  // text part always; vision part where the folder has it
  UNetConfig unet_config;
  VaeConfig vae_config;
  SchedulerConfig scheduler;
  std::shared_ptr<const Tokenizer> tokenizer;
  StateDict text_encoder, unet, vae;
  std::string digest;  // SHA-256 over the digests of the folder's files
};

// Loads FOLDER/{tokenizer,text_encoder,unet,vae,scheduler}. text_encoder may hold a CLIPTextModel
// or a whole CLIPModel, whose vision part is kept. Throws Error naming every file that is missing,
// or the tensor or size that does not fit.
Backbone LoadBackbone(const std::filesystem::path& folder, const Compute& compute = {});
// The backbone as `compute` wants it; tensors that do not change are shared.
Backbone Place(Backbone backbone, const Compute& compute);

// One model's folder each; weights are checked against config.json. Names of transformers 5
// ("embeddings...") and of old VAEs are brought to the ones used here. Of a text encoder's tensors
// only the `wanted` ones are read.
void LoadTextEncoder(const std::filesystem::path& folder, ClipConfig* config, StateDict* weights,
                     const Compute& compute = {}, const TensorChoice& wanted = nullptr);
// Whether a CLIPModel's tensor takes part in reading texts: all but the vision part.
bool IsOfTexts(const std::string& name);
void LoadUNet(const std::filesystem::path& folder, UNetConfig* config, StateDict* weights,
              const Compute& compute = {});
void LoadVae(const std::filesystem::path& folder, VaeConfig* config, StateDict* weights,
             const Compute& compute = {});

// A CLIPModel folder with its tokenizer (FOLDER, or FOLDER/tokenizer, or FOLDER/../tokenizer).
struct ClipModel {
  std::filesystem::path folder;
  ClipConfig config;
  std::shared_ptr<const Tokenizer> tokenizer;
  StateDict weights;
  std::string digest;
};
ClipModel LoadClipModel(const std::filesystem::path& folder);

struct SamplerSpec {
  std::string scheduler;  // "" = the snapshot's own; else as WithScheduler
  int64_t steps = 20;
  double guidance_scale = 3.0;
  int64_t height = 64, width = 64;
  double eta = 0;        // see SamplerOptions
  StepNoise noise = {};  // (batch, 4, h/8, w/8) a step, which stochastic samplers need
  // Above 0: after every step but the last, and after Mix, the latents get `extra_noise` times this
  // times what DDPM adds there (AncestralDeviation), the latent streams of a picture the same.
  double noise_scale = 0;
  StepNoise extra_noise = {};
  // Steps before this one are not taken; above 0, latents are what the model sees there
  // (NoisedStart).
  int64_t first_step = 0;
};

// (batch, max_length) int64 ids, padded.
at::Tensor TokenizeBatch(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                         int64_t max_length);
// Text states (batch, tokens, width) as the U-Net sees them; `hooks`, where given, act inside the
// encoder (Hooks::TextLayers), on prompts and on the empty prompt alike. Differentiable.
at::Tensor EncodeText(const Backbone& backbone, const at::Tensor& input_ids,
                      const Hooks* hooks = nullptr);
// The same from token embeddings (batch, tokens, hidden) before positions are added, such as an
// attack moves away from the table's rows; `input_ids` only say where the text ends.
at::Tensor EncodeTokens(const Backbone& backbone, const at::Tensor& token_embeddings,
                        const at::Tensor& input_ids, const Hooks* hooks = nullptr);

// Runs the sampler. prompt_states, empty_states (batch, tokens, width); latents (batch, 4, h/8,
// w/8) unit normal: their size decides the picture's, not spec.height and spec.width. Returns
// latents (scaled). Throws UsageError where the scheduler cannot do what the spec asks beyond plain
// drawing. Differentiable; callers that need no gradient hold a NoGrad. All streams of a
// step go through one U-Net call. `detected`, if given, gets what the run's detectors said.
// `prompt_ids` (batch, tokens) and `prompt_embeddings`, if given, are what prompt_states were
// encoded from: see GuidanceBatch.
// `unet_evaluations`, if given, grows by one for every row of every call (images x streams), which
// does not depend on the batch size. Throws Error, naming the step, where values are not finite.
at::Tensor SampleLatents(const Backbone& backbone, const Hooks* hooks,
                         const at::Tensor& prompt_states, const at::Tensor& empty_states,
                         const at::Tensor& latents, const SamplerSpec& spec,
                         int64_t* unet_evaluations = nullptr, Signals* detected = nullptr,
                         const at::Tensor& prompt_ids = {},
                         const at::Tensor& prompt_embeddings = {});
// What the model sees of scaled latents `x0` at spec.first_step, with unit normal `noise` of their
// shape: signal x0 + noise epsilon at the sampler's level. Latents for SampleLatents.
at::Tensor NoisedStart(const Backbone& backbone, const at::Tensor& x0, const at::Tensor& noise,
                       const SamplerSpec& spec);
// The noise that the model predicts under `run` at one step of `sampler`, (batch, 4, h, w), for
// `input` = signal x0 + noise epsilon at that step's level: what attacks follow through a method's
// hooks. Differentiable; one U-Net call. Mix is applied to the prediction, in which the usual
// samplers are linear. Throws Error when it is not finite. A guidance scale of 1 in `batch` asks
// for the prompt's prediction alone.
at::Tensor PredictNoise(const Backbone& backbone, HookRun& run, const GuidanceBatch& batch,
                        const SchedulerConfig& scheduler, const Sampler& sampler, int64_t step,
                        const at::Tensor& input, int64_t* unet_evaluations = nullptr);
// Images in [0,1], float (batch, 3, h, w), from scaled latents. Throws Error when not finite.
at::Tensor DecodeImages(const Backbone& backbone, const at::Tensor& latents);
// Round half to even, as numpy: uint8 (batch, 3, h, w).
at::Tensor ToUint8(const at::Tensor& images);

}  // namespace excise
