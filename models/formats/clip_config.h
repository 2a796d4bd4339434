// CLIP's config.json as plain data. Knows no tensors, so that hostile files can be fuzzed without
// LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/json.h"

namespace excise {

struct ClipTextConfig {
  int64_t vocab_size = 49408, hidden_size = 512, intermediate_size = 2048;
  int64_t num_hidden_layers = 12, num_attention_heads = 8, max_position_embeddings = 77;
  int64_t projection_dim = 512, bos_token_id = 49406, eos_token_id = 49407, pad_token_id = 49407;
  double layer_norm_eps = 1e-5;
  std::string hidden_act = "quick_gelu";
};
struct ClipVisionConfig {
  int64_t hidden_size = 768, intermediate_size = 3072, num_hidden_layers = 12;
  int64_t num_attention_heads = 12, image_size = 224, patch_size = 32, projection_dim = 512;
  double layer_norm_eps = 1e-5;
  std::string hidden_act = "quick_gelu";
};
struct ClipConfig {
  ClipTextConfig text;
  ClipVisionConfig vision;
  int64_t projection_dim = 512;
};

// From config.json of a CLIPModel, CLIPTextModel(WithProjection) or
// CLIPVisionModel(WithProjection).
ClipConfig ParseClipConfig(const Json& config, std::string_view origin);
Json ClipConfigToJson(const ClipConfig& config);
// About how many weights a model of both parts has; INT64_MAX when they are more.
int64_t ClipElements(const ClipConfig& config);

}  // namespace excise
