// UNet2DConditionModel of Stable Diffusion 1.x and 2.x (Rombach et al., CVPR 2022, arXiv
// 2112.10752) from Hugging Face configs and key names.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "models/formats/unet_config.h"
#include "models/nets/hooks.h"
#include "models/tensors/state_dict.h"

namespace excise {

// sample (batch, 4, h, w); timestep (batch) or scalar, float or int64; encoder_hidden_states
// (batch, tokens, cross_attention_dim); computed on the weights' device and in their dtype. Returns
// the raw prediction (epsilon or v) on the sample's device and in its dtype. Layer names that hooks
// see are the tensors' names without ".weight"; attentions are named
// "...transformer_blocks.<k>.attn1" (self) and ".attn2" (text). Throws Error on wrong shapes.
at::Tensor UNetForward(const UNetConfig& config, const StateDict& weights, const at::Tensor& sample,
                       const at::Tensor& timestep, const at::Tensor& encoder_hidden_states,
                       LayerHooks* hooks = nullptr);

// Fresh weights as PyTorch's modules initialise them, from Philox(seed).
StateDict InitUNet(const UNetConfig& config, uint64_t seed);

}  // namespace excise
