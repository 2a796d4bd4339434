#include "models/tensors/state_dict.h"

#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include <vector>

#include "core/error.h"
#include "core/text.h"

namespace excise {

const at::Tensor& StateDict::Get(std::string_view name) const {
  auto it = map_.find(name);
  if (it != map_.end()) return it->second;
  std::vector<std::string> names;
  names.reserve(map_.size());
  for (const auto& entry : map_) names.push_back(entry.first);
  std::string nearest = Suggest(name, names);
  // A wrong prefix is the usual cause and is far in edit distance: offer the neighbour in order.
  if (nearest.empty() && !map_.empty()) {
    auto next = map_.lower_bound(name);
    nearest = next == map_.end() ? std::prev(next)->first : next->first;
  }
  throw Error(fmt::format(
      "No tensor '{}' among {} weights{}. The weights probably belong to another architecture or "
      "their config.json does not describe them; check that both come from the same snapshot.",
      name, map_.size(), nearest.empty() ? "" : fmt::format(" (the nearest is '{}')", nearest)));
}

void StateDict::Merge(const StateDict& other) {
  for (const auto& [name, tensor] : other) map_[name] = tensor;
}

StateDict ToHalf(const StateDict& tensors) {
  StateDict result;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.scalar_type() != at::kFloat) {
      result.Set(name, tensor);
      continue;
    }
    at::Tensor half = tensor.detach().to(at::kHalf);
    if (!at::isfinite(half).all().item<bool>()) {
      throw Error(fmt::format(
          "Tensor '{}' does not fit into float16: it holds a value beyond 65504 or one that is not "
          "finite. The training probably diverged; lower its learning rate or save float32.",
          name));
    }
    result.Set(name, std::move(half));
  }
  return result;
}

}  // namespace excise
