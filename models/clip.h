// CLIP text and vision transformers (Radford et al., ICML 2021, arXiv 2103.00020) from Hugging Face
// configs and key names. Free functions over a StateDict; all are differentiable.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/json.h"
#include "models/state_dict.h"

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

struct ClipTextOutput {
  at::Tensor last_hidden_state;  // (batch, tokens, hidden), after final_layer_norm
  at::Tensor pooler_output;      // (batch, hidden), at the first end token
};

// input_ids (batch, tokens) int64. Keys "text_model.*".
at::Tensor ClipTokenEmbeddings(const StateDict& weights, const at::Tensor& input_ids);
// token_embeddings (batch, tokens, hidden) before positions are added; `input_ids` only says where
// the end token stands. `attention_mask` (batch, tokens) or undefined: SD uses none.
ClipTextOutput ClipTextForward(const ClipTextConfig& config, const StateDict& weights,
                               const at::Tensor& token_embeddings, const at::Tensor& input_ids,
                               const at::Tensor& attention_mask = {});

struct ClipVisionOutput {
  at::Tensor last_hidden_state;  // (batch, 1 + patches, hidden)
  at::Tensor pooler_output;      // (batch, hidden), after post_layernorm
};
// pixel_values (batch, 3, size, size), normalised by CLIP's mean and deviation.
ClipVisionOutput ClipVisionForward(const ClipVisionConfig& config, const StateDict& weights,
                                   const at::Tensor& pixel_values);

// text_projection / visual_projection, not normalised.
at::Tensor ClipTextEmbeds(const StateDict& weights, const at::Tensor& pooler_output);
at::Tensor ClipImageEmbeds(const StateDict& weights, const at::Tensor& pooler_output);

// images in [0,1] of any size -> pixel_values: bicubic (antialiased) to image_size, centre crop,
// CLIP mean and deviation. Differentiable.
at::Tensor ClipPreprocess(const ClipVisionConfig& config, const at::Tensor& images);

// Fresh weights as transformers initialises them, from Philox(seed).
StateDict InitClip(const ClipConfig& config, uint64_t seed);

}  // namespace excise
