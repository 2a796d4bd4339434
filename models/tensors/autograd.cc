#include "models/tensors/autograd.h"

#include <ATen/autocast_mode.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

namespace excise {

std::vector<at::Tensor> Gradients(const at::Tensor& loss, const std::vector<at::Tensor>& inputs,
                                  bool retain, bool create_graph) {
  return torch::autograd::grad({loss}, inputs, {}, retain || create_graph, create_graph,
                               /*allow_unused=*/true);
}

void Backward(const at::Tensor& loss) { torch::autograd::backward({loss}); }

NoGrad::NoGrad() : previous_(c10::GradMode::is_enabled()) { c10::GradMode::set_enabled(false); }

NoGrad::~NoGrad() { c10::GradMode::set_enabled(previous_); }

Autocast::Autocast(bool enabled) : previous_(at::autocast::is_autocast_enabled(at::kCPU)) {
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, enabled);
  at::autocast::increment_nesting();
}

Autocast::~Autocast() {
  // The cache must not outlive the outermost scope: weights change between steps.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, previous_);
}

}  // namespace excise
