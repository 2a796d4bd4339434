// AutoencoderKL of Stable Diffusion (arXiv 2112.10752) from Hugging Face configs and key names.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "models/formats/vae_config.h"
#include "models/tensors/state_dict.h"

namespace excise {

// Old checkpoints call the attention's layers query, key, value and proj_attn, and some store them
// as 1x1 convolutions: renamed to to_q, to_k, to_v, to_out.0 and squeezed. Others stay shared.
StateDict NormalizeVaeNames(const StateDict& weights);

// Weights under the new names (see NormalizeVaeNames) in the functions below.
struct VaeMoments {
  at::Tensor mean, logvar;  // (batch, 4, h/8, w/8); logvar clamped to [-30, 20]; not scaled
};
// images (batch, 3, h, w) in [-1, 1].
VaeMoments VaeEncode(const VaeConfig& config, const StateDict& weights, const at::Tensor& images);
// latents already divided by scaling_factor -> images in about [-1, 1].
at::Tensor VaeDecode(const VaeConfig& config, const StateDict& weights, const at::Tensor& latents);

StateDict InitVae(const VaeConfig& config, uint64_t seed);

}  // namespace excise
