// The tensors of a list of layers: made, and checked.
#pragma once

#include <cstdint>
#include <string_view>

#include "models/formats/layer_list.h"

namespace excise {

class StateDict;

// PyTorch's default initialisation of every layer, from Philox(seed, tensor name).
StateDict InitLayers(const LayerList& layers, uint64_t seed);

// Throws Error if a tensor is missing, has another shape, or is not one of the list; `origin` is
// the checkpoint's folder.
void CheckLayers(const LayerList& layers, const StateDict& weights, std::string_view origin);

}  // namespace excise
