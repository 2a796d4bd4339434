// From token ids to pictures: the functions of backbone.h that compute.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/round.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "models/backbone.h"

namespace excise {
namespace {

void CheckShapes(const at::Tensor& prompt_states, const at::Tensor& empty_states,
                 const at::Tensor& latents) {
  if (prompt_states.dim() == 3 && empty_states.sizes() == prompt_states.sizes() &&
      latents.dim() == 4 && latents.size(0) == prompt_states.size(0)) {
    return;
  }
  throw Error(
      fmt::format("Sampling: prompt states [{}], empty states [{}] and latents [{}] do not fit; "
                  "(batch, tokens, "
                  "width) twice and (batch, channels, height, width) are expected.",
                  fmt::join(prompt_states.sizes(), ", "), fmt::join(empty_states.sizes(), ", "),
                  fmt::join(latents.sizes(), ", ")));
}

// The streams' epsilon predictions at one step, from one U-Net call.
std::vector<at::Tensor> PredictStreams(const Backbone& backbone, const SchedulerConfig& scheduler,
                                       const std::vector<at::Tensor>& rows, const at::Tensor& input,
                                       int64_t t, LayerHooks* layers) {
  const int64_t batch = input.size(0);
  for (const at::Tensor& states : rows) {
    if (states.dim() == 3 && states.size(0) == batch) continue;
    throw Error(fmt::format("Sampling: the hooks returned text states [{}] for a batch of {}.",
                            fmt::join(states.sizes(), ", "), batch));
  }
  const at::Tensor all =
      rows.size() == 1 ? input : at::cat(std::vector<at::Tensor>(rows.size(), input));
  const at::Tensor states = rows.size() == 1 ? rows.front() : at::cat(rows);
  const at::Tensor time = at::full({}, t, input.options().dtype(at::kLong));
  const at::Tensor output =
      UNetForward(backbone.unet_config, backbone.unet, all, time, states, layers);
  const at::Tensor epsilon = ToEpsilon(scheduler, output, all, time);
  std::vector<at::Tensor> predictions;
  for (size_t i = 0; i < rows.size(); ++i) {
    predictions.push_back(epsilon.narrow(0, static_cast<int64_t>(i) * batch, batch));
  }
  return predictions;
}

}  // namespace

at::Tensor TokenizeBatch(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                         int64_t max_length) {
  at::Tensor ids = at::empty({static_cast<int64_t>(texts.size()), max_length}, at::kLong);
  int64_t* out = ids.data_ptr<int64_t>();
  for (const std::string& text : texts) {
    for (const int64_t id : tokenizer.EncodePadded(text, max_length)) *out++ = id;
  }
  return ids;
}

at::Tensor EncodeText(const Backbone& backbone, const at::Tensor& input_ids) {
  return ClipTextForward(backbone.clip.text, backbone.text_encoder,
                         ClipTokenEmbeddings(backbone.text_encoder, input_ids), input_ids)
      .last_hidden_state;
}

at::Tensor SampleLatents(const Backbone& backbone, const Hooks* hooks,
                         const at::Tensor& prompt_states, const at::Tensor& empty_states,
                         const at::Tensor& latents, const SamplerSpec& spec,
                         int64_t* unet_evaluations) {
  CheckShapes(prompt_states, empty_states, latents);
  SchedulerConfig scheduler = backbone.scheduler;
  if (!spec.scheduler.empty()) scheduler.name = spec.scheduler;
  const std::unique_ptr<Sampler> sampler = MakeSampler(scheduler, spec.steps);
  const std::vector<int64_t>& timesteps = sampler->timesteps();

  GuidanceBatch batch{prompt_states, empty_states, spec.guidance_scale,
                      static_cast<int64_t>(timesteps.size())};
  const std::unique_ptr<HookRun> run =
      hooks != nullptr ? hooks->Start(batch) : std::make_unique<HookRun>();
  at::Tensor x = latents * sampler->init_noise_sigma();
  for (size_t index = 0; index < timesteps.size(); ++index) {
    const auto step = static_cast<int64_t>(index);
    const std::vector<at::Tensor> rows = run->Rows(batch, step);
    if (rows.empty()) throw Error("Sampling: the hooks returned no text states.");
    const at::Tensor input = sampler->ScaleInput(x, index);
    const std::vector<at::Tensor> predictions =
        PredictStreams(backbone, scheduler, rows, input, timesteps[index], run->Layers());
    if (unet_evaluations != nullptr) {
      *unet_evaluations += static_cast<int64_t>(rows.size()) * x.size(0);
    }
    const at::Tensor epsilon = run->Combine(batch, step, predictions);
    // Multistep samplers keep a history of raw outputs, so they get what the model would return.
    const at::Tensor time = at::full({}, timesteps[index], input.options().dtype(at::kLong));
    x = sampler->Step(FromEpsilon(scheduler, epsilon, input, time), index, x);
    x = run->Mix(step, std::move(x));
  }
  return x;
}

at::Tensor DecodeImages(const Backbone& backbone, const at::Tensor& latents) {
  const VaeConfig& config = backbone.vae_config;
  const at::Tensor images = VaeDecode(config, backbone.vae, latents / config.scaling_factor);
  return (images / 2 + 0.5).clamp(0, 1);
}

at::Tensor ToUint8(const at::Tensor& images) {
  return at::round(images * 255).clamp(0, 255).to(at::kByte);
}

}  // namespace excise
