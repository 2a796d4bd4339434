// The two building blocks of the U-Net; the VAE shares the first.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "models/nets/hooks.h"
#include "models/nets/unet.h"
#include "models/tensors/state_dict.h"

namespace excise {

// ResnetBlock2D: x (batch, in, h, w) -> (batch, out, h, w). `time` is SiLU of the time embedding,
// (batch, width), or undefined (VAE).
at::Tensor ResnetBlock(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                       const at::Tensor& time, int64_t groups, double eps,
                       LayerHooks* hooks = nullptr);

// Transformer2DModel: self attention, attention to `states` (batch, tokens, width), GEGLU; residual
// around all. x (batch, channels, h, w).
at::Tensor SpatialTransformer(const UNetConfig& config, const StateDict& weights,
                              const std::string& prefix, const at::Tensor& x,
                              const at::Tensor& states, int64_t heads, LayerHooks* hooks);

// Sinusoidal embedding of timesteps (batch) -> (batch, width), float32: arguments reach 1000, where
// half precision has lost the unit.
at::Tensor TimestepEmbedding(const at::Tensor& timesteps, int64_t width, bool flip_sin_to_cos,
                             double freq_shift);

}  // namespace excise
