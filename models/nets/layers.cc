#include "models/nets/layers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/tensors/state_dict.h"

namespace excise {
namespace {

void CheckTensor(const StateDict& weights, const std::string& name,
                 const std::vector<int64_t>& shape, std::string_view origin) {
  if (!weights.Contains(name)) {
    throw Error(
        fmt::format("{}: tensor '{}' (shape [{}]) is missing. The weights do not belong to this "
                    "config.json, or the file is incomplete.",
                    origin, name, fmt::join(shape, ", ")));
  }
  const at::Tensor& tensor = weights.Get(name);
  if (tensor.sizes() != at::IntArrayRef(shape)) {
    throw Error(
        fmt::format("{}: tensor '{}' has shape [{}], but config.json asks for [{}]. Check "
                    "that config.json and the weights are of the same model.",
                    origin, name, fmt::join(tensor.sizes(), ", "), fmt::join(shape, ", ")));
  }
}

}  // namespace

StateDict InitLayers(const LayerList& layers, uint64_t seed) {
  StateDict weights;
  for (const LayerSpec& spec : layers.specs()) {
    if (spec.shape.size() == 1) {
      nn::InitNorm(&weights, spec.prefix, spec.shape[0]);
    } else {
      nn::InitLayer(&weights, spec.prefix, spec.shape, spec.bias, seed);
    }
  }
  return weights;
}

void CheckLayers(const LayerList& layers, const StateDict& weights, std::string_view origin) {
  std::set<std::string> known;
  for (const LayerSpec& spec : layers.specs()) {
    CheckTensor(weights, spec.prefix + ".weight", spec.shape, origin);
    known.insert(spec.prefix + ".weight");
    if (!spec.bias) continue;
    CheckTensor(weights, spec.prefix + ".bias", {spec.shape[0]}, origin);
    known.insert(spec.prefix + ".bias");
  }
  for (const auto& [name, tensor] : weights) {
    if (known.count(name) != 0) continue;
    throw Error(
        fmt::format("{}: unexpected tensor '{}' (shape [{}]): config.json describes no such "
                    "layer, and skipping it would change the model silently.",
                    origin, name, fmt::join(tensor.sizes(), ", ")));
  }
}

}  // namespace excise
