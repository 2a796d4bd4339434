// The U-Net's config.json as plain data, and the layers that it describes. Knows no tensors, so
// that hostile files can be fuzzed without LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "models/formats/layer_list.h"

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

}  // namespace excise
