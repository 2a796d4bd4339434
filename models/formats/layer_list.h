// The layers of a model as data: names and shapes. One list serves initialisation and the check of
// a checkpoint against its configuration.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace excise {

struct LayerSpec {
  std::string prefix;          // "<prefix>.weight", "<prefix>.bias"
  std::vector<int64_t> shape;  // of the weight; a norm's has one entry
  bool bias = true;
};

class LayerList {
 public:
  void Conv(const std::string& prefix, int64_t in, int64_t out, int64_t kernel) {
    specs_.push_back({prefix, {out, in, kernel, kernel}, true});
  }
  void Linear(const std::string& prefix, int64_t in, int64_t out, bool bias = true) {
    specs_.push_back({prefix, {out, in}, bias});
  }
  void Norm(const std::string& prefix, int64_t channels) {
    specs_.push_back({prefix, {channels}, true});
  }
  const std::vector<LayerSpec>& specs() const& { return specs_; }
  // Weights and biases of all layers. Parsers of configurations bound both factors and count.
  int64_t elements() const {
    int64_t sum = 0;
    for (const LayerSpec& spec : specs_) {
      int64_t product = 1;
      for (const int64_t size : spec.shape) product *= size;
      if (__builtin_add_overflow(sum, product + spec.shape[0], &sum)) return INT64_MAX;
    }
    return sum;
  }
  // A temporary hands its layers over, so that a range-for over it does not dangle.
  std::vector<LayerSpec> specs() && { return std::move(specs_); }

 private:
  std::vector<LayerSpec> specs_;
};

}  // namespace excise
