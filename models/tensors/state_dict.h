// Named tensors. A copy of a StateDict shares storage; Set() swaps one tensor of one copy and
// leaves every other one shared (tested by address).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <string_view>

namespace excise {

class StateDict {
 public:
  using Map = std::map<std::string, at::Tensor, std::less<>>;
  // Throws Error naming the tensor and the nearest name present.
  const at::Tensor& Get(std::string_view name) const;
  bool Contains(std::string_view name) const { return map_.find(name) != map_.end(); }
  void Set(std::string name, at::Tensor value) { map_[std::move(name)] = std::move(value); }
  // Every tensor of `other` set in this one.
  void Merge(const StateDict& other);
  size_t size() const { return map_.size(); }
  Map::const_iterator begin() const { return map_.begin(); }
  Map::const_iterator end() const { return map_.end(); }

 private:
  Map map_;
};

// float32 tensors as float16 (the others are shared), for weights on disk. Throws Error naming the
// tensor when a value does not fit (|x| > 65504) or is not finite.
StateDict ToHalf(const StateDict& tensors);

}  // namespace excise
