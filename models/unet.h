// UNet2DConditionModel of Stable Diffusion 1.x and 2.x (Rombach et al., CVPR 2022, arXiv
// 2112.10752) from Hugging Face configs and key names.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "models/hooks.h"
#include "models/layer_list.h"
#include "models/state_dict.h"

namespace excise {

struct UNetConfig {
  int64_t in_channels = 4, out_channels = 4, sample_size = 64;
  std::vector<int64_t> block_out_channels = {320, 640, 1280, 1280};
  std::vector<std::string> down_block_types, up_block_types;
  int64_t layers_per_block = 2, cross_attention_dim = 768, norm_num_groups = 32;
  std::vector<int64_t> num_heads = {8, 8, 8, 8};  // config.json calls it attention_head_dim
  int64_t transformer_layers_per_block = 1;
  double norm_eps = 1e-5;
  bool use_linear_projection = false, upcast_attention = false;
  bool flip_sin_to_cos = true;
  double freq_shift = 0;
};

// Refuses by name what is not supported (class embeddings, other blocks, added time embeddings).
UNetConfig ParseUNetConfig(const Json& config, std::string_view origin);
Json UNetConfigToJson(const UNetConfig& config);
// Every layer of the model, for initialisation and for checking a checkpoint.
LayerList UNetLayers(const UNetConfig& config);

// sample (batch, 4, h, w); timestep (batch) or scalar, float or int64; encoder_hidden_states
// (batch, tokens, cross_attention_dim). Returns the raw prediction (epsilon or v), as the sample.
// Layer names that hooks see are the tensors' names without ".weight"; attentions are named
// "...transformer_blocks.<k>.attn1" (self) and ".attn2" (text). Throws Error on wrong shapes.
at::Tensor UNetForward(const UNetConfig& config, const StateDict& weights, const at::Tensor& sample,
                       const at::Tensor& timestep, const at::Tensor& encoder_hidden_states,
                       LayerHooks* hooks = nullptr);

// Fresh weights as PyTorch's modules initialise them, from Philox(seed).
StateDict InitUNet(const UNetConfig& config, uint64_t seed);

}  // namespace excise
