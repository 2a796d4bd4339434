#include "training/diffusion.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "training/losses.h"

namespace excise {
namespace {

// abar of each timestep in double precision, shaped (batch, 1, ...) to multiply `like`.
at::Tensor GatherAlphas(const SchedulerConfig& config, const at::Tensor& timesteps, int64_t dim) {
  const std::vector<double> table = AlphasCumprod(config);
  const at::Tensor alphas = at::tensor(table, at::kDouble).index_select(0, timesteps.cpu());
  std::vector<int64_t> shape(static_cast<size_t>(dim), 1);
  shape[0] = timesteps.numel();
  return alphas.view(shape);
}

}  // namespace

DiffusionDraw DrawDiffusion(const SchedulerConfig& config, uint64_t seed, int64_t step,
                            int64_t first_sample, int64_t batch, at::IntArrayRef latent_shape,
                            double caption_dropout) {
  if (batch < 1 || latent_shape.size() != 3) {
    throw Error(
        fmt::format("DrawDiffusion needs a batch of at least 1 and a (channels, height, "
                    "width) shape; got {} and ({})",
                    batch, fmt::join(latent_shape, ", ")));
  }
  if (!(caption_dropout >= 0 && caption_dropout <= 1)) {
    throw UsageError(fmt::format("caption_dropout is {}; it must be in [0, 1]", caption_dropout));
  }
  DiffusionDraw draw;
  draw.timesteps = at::empty({batch}, at::kLong);
  draw.dropped = at::empty({batch}, at::kBool);
  draw.noise = at::empty({batch, latent_shape[0], latent_shape[1], latent_shape[2]}, at::kFloat);
  const int64_t per_sample = draw.noise.numel() / batch;
  for (int64_t i = 0; i < batch; ++i) {
    const auto sample = static_cast<uint64_t>(first_sample + i);
    const auto at_step = static_cast<uint64_t>(step);
    Philox choice({seed, "training.diffusion", sample, Stream::kData, at_step});
    draw.timesteps.data_ptr<int64_t>()[i] =
        static_cast<int64_t>(choice.Below(static_cast<uint64_t>(config.num_train_timesteps)));
    draw.dropped.data_ptr<bool>()[i] = choice.Uniform() < caption_dropout;
    Philox noise({seed, "training.diffusion", sample, Stream::kStepNoise, at_step});
    noise.FillNormal(draw.noise.data_ptr<float>() + i * per_sample,
                     static_cast<size_t>(per_sample));
  }
  return draw;
}

at::Tensor DropCaptions(const at::Tensor& states, const at::Tensor& empty_states,
                        const at::Tensor& dropped) {
  if (states.dim() != 3 || empty_states.dim() != 3 || dropped.dim() != 1 ||
      dropped.size(0) != states.size(0)) {
    throw Error(
        fmt::format("DropCaptions: states ({}), empty states ({}) and dropped ({}) do not "
                    "fit together",
                    fmt::join(states.sizes(), ", "), fmt::join(empty_states.sizes(), ", "),
                    fmt::join(dropped.sizes(), ", ")));
  }
  return at::where(dropped.to(states.device()).view({-1, 1, 1}), empty_states, states);
}

at::Tensor DiffusionTarget(const SchedulerConfig& config, const at::Tensor& x0,
                           const at::Tensor& noise, const at::Tensor& timesteps) {
  if (config.prediction_type == "epsilon") return noise;
  if (config.prediction_type == "sample") return x0;
  if (config.prediction_type == "v_prediction") {
    const at::Tensor alphas = GatherAlphas(config, timesteps, x0.dim());
    return alphas.sqrt().to(x0.options()) * noise - (1 - alphas).sqrt().to(x0.options()) * x0;
  }
  throw Error(fmt::format("Unknown prediction_type '{}'. Known: epsilon, v_prediction, sample",
                          config.prediction_type));
}

at::Tensor MinSnrWeights(const SchedulerConfig& config, const at::Tensor& timesteps, double gamma) {
  if (!(gamma > 0)) throw UsageError(fmt::format("min-SNR gamma is {}; it must be > 0", gamma));
  const at::Tensor alphas = GatherAlphas(config, timesteps, 1);
  const at::Tensor snr = alphas / (1 - alphas);
  const at::Tensor capped = snr.clamp_max(gamma);
  at::Tensor weights = capped;
  if (config.prediction_type == "epsilon") weights = capped / snr;
  if (config.prediction_type == "v_prediction") weights = capped / (snr + 1);
  return weights.to(at::kFloat).to(timesteps.device());
}

at::Tensor DenoisingLosses(const UNetConfig& unet, const SchedulerConfig& config,
                           const StateDict& weights, const at::Tensor& latents,
                           const at::Tensor& states, const DiffusionDraw& draw, LayerHooks* hooks) {
  const at::Tensor timesteps = draw.timesteps.to(latents.device());
  const at::Tensor noise = draw.noise.to(latents.options());
  const at::Tensor noised = AddNoise(config, latents, noise, timesteps);
  const at::Tensor prediction = UNetForward(unet, weights, noised, timesteps, states, hooks);
  return MseLosses(prediction, DiffusionTarget(config, latents, noise, timesteps));
}

NoisedRows DrawNoisedRows(const SchedulerConfig& config, const at::Tensor& latents, Philox rng,
                          int64_t step, int64_t batch) {
  std::vector<int64_t> chosen;
  for (int64_t i = 0; i < batch; ++i) {
    chosen.push_back(static_cast<int64_t>(rng.Below(static_cast<uint64_t>(latents.size(0)))));
  }
  NoisedRows drawn;
  drawn.rows = at::tensor(chosen, at::kLong).to(latents.device());
  const at::Tensor x0 = latents.index_select(0, drawn.rows);
  const DiffusionDraw draw =
      DrawDiffusion(config, rng.NextU64(), step, 0, batch, x0.sizes().slice(1));
  const at::Tensor noise = draw.noise.to(x0.options());
  drawn.timesteps = draw.timesteps.to(x0.device());
  drawn.noised = AddNoise(config, x0, noise, drawn.timesteps);
  drawn.target = DiffusionTarget(config, x0, noise, drawn.timesteps);
  return drawn;
}

}  // namespace excise
