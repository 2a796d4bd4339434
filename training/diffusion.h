// What every fine-tuning of a diffusion model shares: drawn timesteps and noise, dropped captions,
// noised latents and regression targets (Ho et al., NeurIPS 2020, arXiv 2006.11239; v-prediction:
// Salimans & Ho, ICLR 2022, arXiv 2202.00512; dropped captions: Ho & Salimans, arXiv 2207.12598).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/random.h"
#include "models/nets/hooks.h"
#include "models/nets/unet.h"
#include "models/samplers/scheduler.h"
#include "models/tensors/state_dict.h"

namespace excise {

// Every sample's numbers are a function of (seed, step, sample index) alone: cutting a batch into
// micro-batches (with `first_sample` moved along) changes none of them.
struct DiffusionDraw {
  at::Tensor timesteps;  // (batch) int64 in [0, num_train_timesteps)
  at::Tensor noise;      // (batch, channels, height, width) float32, standard normal
  at::Tensor dropped;    // (batch) bool: train this sample without its caption
};
// latent_shape: (channels, height, width). caption_dropout in [0, 1]. Tensors are on the CPU.
DiffusionDraw DrawDiffusion(const SchedulerConfig& config, uint64_t seed, int64_t step,
                            int64_t first_sample, int64_t batch, at::IntArrayRef latent_shape,
                            double caption_dropout = 0);

// `empty_states` ((1 | batch), tokens, width) where dropped (batch), else `states`.
at::Tensor DropCaptions(const at::Tensor& states, const at::Tensor& empty_states,
                        const at::Tensor& dropped);

// What the U-Net should answer for the config's prediction type: noise, or
// sqrt(abar) noise - sqrt(1 - abar) x0, or x0. As x0.
at::Tensor DiffusionTarget(const SchedulerConfig& config, const at::Tensor& x0,
                           const at::Tensor& noise, const at::Tensor& timesteps);

// Weight min(SNR, gamma) / SNR (epsilon), min(SNR, gamma) / (SNR + 1) (v) or min(SNR, gamma) (x0)
// of each timestep, (batch) float32 (Hang et al., ICCV 2023, arXiv 2303.09556). gamma > 0.
at::Tensor MinSnrWeights(const SchedulerConfig& config, const at::Tensor& timesteps, double gamma);

// Mean squared error of the U-Net's answer at the drawn timesteps, (batch). `latents` are scaled
// ones; `states` have captions already dropped. The draw is moved to the latents' device.
at::Tensor DenoisingLosses(const UNetConfig& unet, const SchedulerConfig& config,
                           const StateDict& weights, const at::Tensor& latents,
                           const at::Tensor& states, const DiffusionDraw& draw,
                           LayerHooks* hooks = nullptr);

// A gradient step's share of a set of pictures: rows drawn with repetition, noised.
struct NoisedRows {
  at::Tensor rows;       // (batch) int64: which pictures
  at::Tensor timesteps;  // (batch) int64
  at::Tensor noised;     // (batch, channels, h, w)
  at::Tensor target;     // what the U-Net should answer
};
// `latents` (n, channels, h, w) are scaled ones; all is on their device. A function of `rng` and
// `step`.
NoisedRows DrawNoisedRows(const SchedulerConfig& config, const at::Tensor& latents, Philox rng,
                          int64_t step, int64_t batch);

}  // namespace excise
