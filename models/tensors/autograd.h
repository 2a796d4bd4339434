// The one file that sees autograd: gradients of a scalar without torch::nn modules.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace excise {

// d loss / d inputs, undefined where independent. `retain` keeps the graph.
std::vector<at::Tensor> Gradients(const at::Tensor& loss, const std::vector<at::Tensor>& inputs,
                                  bool retain = false, bool create_graph = false);
// Accumulates into .grad of the leaves.
void Backward(const at::Tensor& loss);

class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

// bfloat16 autocast on the CPU for the scope (off when `enabled` is false); clears the cast cache.
class Autocast {
 public:
  explicit Autocast(bool enabled);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool previous_;
};

}  // namespace excise
