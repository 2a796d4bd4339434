// Heads of a classifier on CLIP image embeddings, as Unsafe Diffusion (Qu et al., CCS 2023, arXiv
// 2305.13873) and LAION's CLIP-based NSFW detector have them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "models/tensors/state_dict.h"

namespace excise {

// One head: embeddings (batch, width), not normalised -> logits (batch). Two layouts:
//   Unsafe Diffusion's Sequential: 0 linear, 1 ReLU, 2 dropout, 3 batch norm, 4 linear; tensors
//     "0.weight" (hidden, width), "0.bias", "3.weight", "3.bias", "3.running_mean",
//     "3.running_var" (hidden), "4.weight" (1, hidden), "4.bias" (1)
//   LAION's Keras model on unit embeddings: "normalization.mean", "normalization.variance"
//     (width), then "dense_<k>.kernel" (in, out), "dense_<k>.bias" by rising k, ReLU between. Where
//     a mean is above 1 the model took the column for a category, whose table its checkpoint left
//     empty: such columns are the constant 1, the index of what no table holds.
// A sigmoid of the logit above 0.5 means the concept.
at::Tensor HeadLogits(const StateDict& head, const at::Tensor& embeds);

// The width of the embeddings that the head reads. Throws Error naming `origin` and the tensor
// where it has neither layout, or tensors do not fit each other.
int64_t CheckHead(const StateDict& head, const std::string& origin);

// Heads by name (the file's stem): FILE.safetensors, or every .safetensors of a folder, which has
// to be a head each. Files above 256 MB are refused. `only`, where given, chooses among them.
std::map<std::string, StateDict> ReadHeads(const std::filesystem::path& path,
                                           const std::vector<std::string>& only);

// A fresh head of Unsafe Diffusion's layout, hidden units = width / 2, as PyTorch initialises it.
StateDict InitHead(int64_t width, uint64_t seed);
// The head in training: batch statistics, which move running_mean and running_var in place
// (momentum 0.1), and `mask` (batch, hidden): 0 where dropout drops, 1 / (1 - rate) elsewhere.
at::Tensor TrainingLogits(const StateDict& head, const at::Tensor& embeds, const at::Tensor& mask);

// Heads as one dict ("<name>/<tensor>"), and apart again.
StateDict JoinHeads(const std::map<std::string, StateDict>& heads);
std::map<std::string, StateDict> PartHeads(const StateDict& joined);

}  // namespace excise
