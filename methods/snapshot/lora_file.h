// Low-rank changes of weights (Hu et al., "LoRA", ICLR 2022, arXiv 2106.09685) from a safetensors
// file in any of the forms that people have: W <- W + scale (alpha / rank) up down.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "models/snapshots/backbone.h"

namespace excise {

struct LoraLayer {
  bool text_encoder = false;  // else of the U-Net
  std::string weight;         // the tensor's name in the base model
  at::Tensor down, up;        // float32 (rank, in [, kh, kw]) and (out, rank [, 1, 1])
  double scale = 1;           // alpha / rank, or alpha / sqrt(rank); 1 where no alpha is given
};

// Reads FILE.safetensors, or a folder with adapter_model.safetensors (and adapter_config.json) or
// pytorch_lora_weights.safetensors. Names of layers:
//   diffusers  unet.<layer>.lora.down.weight, <attention>.processor.to_q_lora.down.weight,
//              text_encoder.<layer>.lora_linear_layer.up.weight
//   peft       [base_model.model.][unet.|text_encoder.]<layer>.lora_A[.<adapter>].weight, lora_B
//   kohya      lora_unet_<layer_with_underscores>.lora_down.weight, lora_te_..., .alpha
// alpha stands in tensors "<layer>.alpha", in the metadata that diffusers writes, or in
// adapter_config.json; where it stands nowhere it equals the rank. Throws Error naming the file and
// the tensor: a layer that the base model lacks, half a pair, ranks or sizes that do not fit, forms
// that are not low-rank sums (DoRA, LoHa, LoKr, ...), nothing of a LoRA at all.
std::vector<LoraLayer> ReadLora(const std::filesystem::path& path, const Backbone& base);

// scale up down, in the shape of `weight` (out, in) or (out, in, kh, kw).
at::Tensor LoraChange(const LoraLayer& layer, const at::Tensor& weight);

}  // namespace excise
