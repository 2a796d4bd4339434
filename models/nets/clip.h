// CLIP text and vision transformers (Radford et al., ICML 2021, arXiv 2103.00020) from Hugging Face
// configs and key names. Free functions over a StateDict; all are differentiable. `hooks` see the
// linear layers and attentions of a tower by name ("text_model.encoder.layers.0.mlp.fc1",
// "text_model.encoder.layers.0.self_attn"); null costs nothing.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "models/formats/clip_config.h"
#include "models/nets/hooks.h"
#include "models/tensors/state_dict.h"

namespace excise {

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
                               const at::Tensor& attention_mask = {}, LayerHooks* hooks = nullptr);

// `pooler_output` alone, up to rounding: of the last layer no other token is computed.
at::Tensor ClipTextPooled(const ClipTextConfig& config, const StateDict& weights,
                          const at::Tensor& token_embeddings, const at::Tensor& input_ids,
                          LayerHooks* hooks = nullptr);

struct ClipVisionOutput {
  at::Tensor last_hidden_state;  // (batch, 1 + patches, hidden)
  at::Tensor pooler_output;      // (batch, hidden), after post_layernorm
};
// pixel_values (batch, 3, size, size), normalised by CLIP's mean and deviation. Hooks see the patch
// embedding, a convolution whose patches do not overlap, as the linear layer that it is: x (batch,
// patches, 3 * patch_size^2), y (batch, patches, hidden).
ClipVisionOutput ClipVisionForward(const ClipVisionConfig& config, const StateDict& weights,
                                   const at::Tensor& pixel_values, LayerHooks* hooks = nullptr);
// `pooler_output` alone, as ClipTextPooled.
at::Tensor ClipVisionPooled(const ClipVisionConfig& config, const StateDict& weights,
                            const at::Tensor& pixel_values, LayerHooks* hooks = nullptr);

// text_projection / visual_projection, not normalised.
at::Tensor ClipTextEmbeds(const StateDict& weights, const at::Tensor& pooler_output);
at::Tensor ClipImageEmbeds(const StateDict& weights, const at::Tensor& pooler_output);

// images in [0,1] of any size -> pixel_values: bicubic (antialiased) to image_size, centre crop,
// CLIP mean and deviation. Differentiable.
at::Tensor ClipPreprocess(const ClipVisionConfig& config, const at::Tensor& images);

// Fresh weights as transformers initialises them, from Philox(seed).
StateDict InitClip(const ClipConfig& config, uint64_t seed);

}  // namespace excise
