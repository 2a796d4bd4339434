// From token ids to pictures: the functions of backbone.h that compute.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/round.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "models/snapshots/backbone.h"

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

// A picture of NaN would be written as a black one, and black shows no concept.
void RequireFinite(const at::Tensor& values, const std::string& what) {
  if (at::isfinite(values).all().item<bool>()) return;
  throw Error(fmt::format(
      "Sampling: {} not finite, so there is no picture. The weights are damaged or too large, or "
      "too large for the precision: see what the method made of them, and try --dtype=fp32.",
      what));
}

// Below this share of signal in what the model sees, a prediction of v or x0 does not survive the
// way to epsilon and back in single precision (the inverse divides by it). Stable Diffusion's own
// schedule ends at 0.068, so only rescaled, linear and cosine ones come here.
constexpr double kLeastSignal = 0.05;

// How the model's outputs relate to the predictions that hooks see, at one step.
struct Conversion {
  const SchedulerConfig& scheduler;
  NoiseLevel level;
  bool keep_raw;
  Conversion(const SchedulerConfig& config, NoiseLevel noise_level)
      : scheduler(config), level(noise_level), keep_raw(noise_level.signal < kLeastSignal) {}

  at::Tensor ToPrediction(const at::Tensor& output, const at::Tensor& input) const {
    return keep_raw ? output : ToEpsilon(scheduler, output, input, level);
  }
  at::Tensor ToOutput(const at::Tensor& prediction, const at::Tensor& input) const {
    return keep_raw ? prediction : FromEpsilon(scheduler, prediction, input, level);
  }
};

// The streams' predictions at one step, from one U-Net call.
std::vector<at::Tensor> PredictStreams(const Backbone& backbone, const Conversion& conversion,
                                       const std::vector<at::Tensor>& rows, const at::Tensor& input,
                                       double t, LayerHooks* layers) {
  const int64_t batch = input.size(0);
  for (const at::Tensor& states : rows) {
    if (states.dim() == 3 && states.size(0) == batch) continue;
    throw Error(fmt::format("Sampling: the hooks returned text states [{}] for a batch of {}.",
                            fmt::join(states.sizes(), ", "), batch));
  }
  const at::Tensor all =
      rows.size() == 1 ? input : at::cat(std::vector<at::Tensor>(rows.size(), input));
  const at::Tensor states = rows.size() == 1 ? rows.front() : at::cat(rows);
  const at::Tensor time = at::full({}, t, input.options().dtype(at::kFloat));
  const at::Tensor output =
      UNetForward(backbone.unet_config, backbone.unet, all, time, states, layers);
  const at::Tensor prediction = conversion.ToPrediction(output, all);
  std::vector<at::Tensor> predictions;
  for (size_t i = 0; i < rows.size(); ++i) {
    predictions.push_back(prediction.narrow(0, static_cast<int64_t>(i) * batch, batch));
  }
  return predictions;
}

// `noise` for one picture a row of the batch: the latent streams of a picture share its noise. The
// shape of what it returns is checked.
StepNoise Checked(const StepNoise& noise, int64_t batch) {
  if (!noise) return noise;
  return [noise, batch](size_t index, const at::Tensor& like) {
    const at::Tensor one = like.narrow(0, 0, batch);
    const at::Tensor drawn = noise(index, one);
    if (drawn.sizes() != one.sizes()) {
      throw Error(fmt::format("Sampling: the noise of step {} is [{}], the latents are [{}].",
                              index, fmt::join(drawn.sizes(), ", "), fmt::join(one.sizes(), ", ")));
    }
    return drawn.to(like.options()).repeat({like.size(0) / batch, 1, 1, 1});
  };
}

// The sampler of a spec, for batches of `batch` pictures. Throws UsageError for a first step that
// the schedule does not have, and for a scheduler that cannot begin there or be disturbed.
std::unique_ptr<Sampler> SamplerOf(const SchedulerConfig& scheduler, const SamplerSpec& spec,
                                   int64_t batch) {
  if (spec.first_step < 0 || (spec.first_step > 0 && spec.first_step >= spec.steps)) {
    throw UsageError(
        fmt::format("Sampling: step {} is to be the first of {}, which are counted from 0. Take "
                    "more steps, or begin earlier.",
                    spec.first_step, spec.steps));
  }
  if (spec.noise_scale != 0 && scheduler.name == "pndm") {
    throw UsageError(
        "Sampling: PNDM goes back to the latents before its first step, so noise that is added "
        "after it would be lost. Take another scheduler, as in --set sampler.scheduler=ddim.");
  }
  if (!(spec.noise_scale >= 0) || (spec.noise_scale > 0 && !spec.extra_noise)) {
    throw Error(fmt::format(
        "Sampling: noise times {} is to be added after every step. A number from 0 on is expected, "
        "and where it is not 0, SamplerSpec::extra_noise.",
        spec.noise_scale));
  }
  return MakeSampler(scheduler, spec.steps,
                     {spec.eta, Checked(spec.noise, batch), static_cast<size_t>(spec.first_step)});
}

// What latents are multiplied by before the model sees them at step `index`.
double InputScale(Sampler* sampler, size_t index) {
  return sampler->ScaleInput(at::ones({}, at::kDouble), index).item<double>();
}

// What is added to latents `x` between steps `index` and `index` + 1. Samplers that keep latents
// of another scale than the model sees get it on theirs.
at::Tensor Disturbance(Sampler* sampler, const StepNoise& noise, double scale, size_t index,
                       const at::Tensor& x) {
  const double deviation = AncestralDeviation(sampler->Level(index), sampler->Level(index + 1));
  return noise(index, x) * (scale * deviation / InputScale(sampler, index + 1));
}

RowLayout Layout(const GuidanceBatch& batch, int64_t step, const std::vector<at::Tensor>& rows,
                 const at::Tensor& input) {
  const int64_t pictures = batch.prompt_states.size(0), latents = input.size(0);
  if (latents % pictures != 0) {
    throw Error(fmt::format(
        "Sampling: the hooks made {} latents of {} pictures, so nobody knows which belong to which "
        "picture. Fork must return as many latents for each.",
        latents, pictures));
  }
  return {step, static_cast<int64_t>(rows.size()) * (latents / pictures), pictures};
}

// One step of the run on `input`, all streams in one U-Net call: the combined prediction.
at::Tensor Combined(const Backbone& backbone, HookRun& run, const GuidanceBatch& batch,
                    const Conversion& conversion, double timestep, int64_t step,
                    const at::Tensor& input, int64_t* unet_evaluations) {
  const std::vector<at::Tensor> rows = run.Rows(batch, step);
  if (rows.empty()) throw Error("Sampling: the hooks returned no text states.");
  LayerHooks* layers = run.Layers();
  if (layers != nullptr) layers->Begin(Layout(batch, step, rows, input));
  const std::vector<at::Tensor> predictions =
      PredictStreams(backbone, conversion, rows, input, timestep, layers);
  if (unet_evaluations != nullptr) {
    *unet_evaluations += static_cast<int64_t>(rows.size()) * input.size(0);
  }
  run.Observe({step, input, conversion.level.signal, conversion.level.noise}, predictions);
  return run.Combine(batch, step, predictions);
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

at::Tensor EncodeText(const Backbone& backbone, const at::Tensor& input_ids, const Hooks* hooks) {
  return EncodeTokens(backbone, ClipTokenEmbeddings(backbone.text_encoder, input_ids), input_ids,
                      hooks);
}

at::Tensor EncodeTokens(const Backbone& backbone, const at::Tensor& token_embeddings,
                        const at::Tensor& input_ids, const Hooks* hooks) {
  const std::unique_ptr<LayerHooks> layers = hooks == nullptr ? nullptr : hooks->TextLayers();
  return ClipTextForward(backbone.clip.text, backbone.text_encoder, token_embeddings, input_ids, {},
                         layers.get())
      .last_hidden_state;
}

at::Tensor SampleLatents(const Backbone& backbone, const Hooks* hooks,
                         const at::Tensor& prompt_states, const at::Tensor& empty_states,
                         const at::Tensor& latents, const SamplerSpec& spec,
                         int64_t* unet_evaluations, Signals* detected, const at::Tensor& prompt_ids,
                         const at::Tensor& prompt_embeddings) {
  CheckShapes(prompt_states, empty_states, latents);
  RequireFinite(prompt_states, "the text encoder's states are");
  const SchedulerConfig scheduler = WithScheduler(backbone.scheduler, spec.scheduler);
  const std::unique_ptr<Sampler> sampler = SamplerOf(scheduler, spec, latents.size(0));
  const StepNoise extra_noise = Checked(spec.extra_noise, latents.size(0));
  const auto first = static_cast<size_t>(spec.first_step);
  const std::vector<double>& timesteps = sampler->timesteps();

  GuidanceBatch batch{
      prompt_states, empty_states,      spec.guidance_scale, static_cast<int64_t>(timesteps.size()),
      prompt_ids,    prompt_embeddings, spec.first_step};
  const std::unique_ptr<HookRun> run =
      hooks != nullptr ? hooks->Start(batch) : std::make_unique<HookRun>();
  at::Tensor x = run->Fork(first == 0 ? latents * sampler->init_noise_sigma()
                                      : latents / InputScale(sampler.get(), first));
  for (size_t index = first; index < timesteps.size(); ++index) {
    const auto step = static_cast<int64_t>(index);
    const at::Tensor input = sampler->ScaleInput(x, index);
    const Conversion conversion(scheduler, sampler->Level(index));
    const at::Tensor combined = Combined(backbone, *run, batch, conversion, timesteps[index], step,
                                         input, unet_evaluations);
    // Asked before the sampler, which may clip what is infinite.
    RequireFinite(combined,
                  fmt::format("the prediction of step {} of {} is", step + 1, timesteps.size()));
    // Samplers work on what the model itself would return; PNDM keeps a history of it.
    x = sampler->Step(conversion.ToOutput(combined, input), index, x);
    x = run->Mix(step, std::move(x));
    if (spec.noise_scale > 0 && index + 1 < timesteps.size()) {
      x = x + Disturbance(sampler.get(), extra_noise, spec.noise_scale, index, x);
    }
    RequireFinite(x,
                  fmt::format("the latents after step {} of {} are", step + 1, timesteps.size()));
  }
  if (detected != nullptr) *detected = run->Detected();
  return run->Join(std::move(x));
}

at::Tensor NoisedStart(const Backbone& backbone, const at::Tensor& x0, const at::Tensor& noise,
                       const SamplerSpec& spec) {
  const SchedulerConfig scheduler = WithScheduler(backbone.scheduler, spec.scheduler);
  const NoiseLevel level =
      SamplerOf(scheduler, spec, x0.size(0))->Level(static_cast<size_t>(spec.first_step));
  return level.signal * x0 + level.noise * noise;
}

at::Tensor PredictNoise(const Backbone& backbone, HookRun& run, const GuidanceBatch& batch,
                        const SchedulerConfig& scheduler, const Sampler& sampler, int64_t step,
                        const at::Tensor& input, int64_t* unet_evaluations) {
  const auto index = static_cast<size_t>(step);
  const Conversion conversion(scheduler, sampler.Level(index));
  const at::Tensor forked = run.Fork(input);
  at::Tensor combined = Combined(backbone, run, batch, conversion, sampler.timesteps().at(index),
                                 step, forked, unet_evaluations);
  RequireFinite(combined, fmt::format("the prediction of step {} is", step + 1));
  if (conversion.keep_raw) combined = ToEpsilon(scheduler, combined, forked, conversion.level);
  return run.Join(run.Mix(step, std::move(combined)));
}

at::Tensor DecodeImages(const Backbone& backbone, const at::Tensor& latents) {
  const VaeConfig& config = backbone.vae_config;
  const at::Tensor images = VaeDecode(config, backbone.vae, latents / config.scaling_factor);
  RequireFinite(images, "the decoded picture is");
  return (images / 2 + 0.5).clamp(0, 1);
}

at::Tensor ToUint8(const at::Tensor& images) {
  return at::round(images * 255).clamp(0, 255).to(at::kByte);
}

}  // namespace excise
