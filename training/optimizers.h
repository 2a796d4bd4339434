// SGD, Adam (Kingma & Ba, ICLR 2015, arXiv 1412.6980) and AdamW (Loshchilov & Hutter, ICLR 2019,
// arXiv 1711.05101) with the update rules of torch.optim, over plain tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "models/tensors/state_dict.h"

namespace excise {

struct OptimizerSpec {
  std::string name = "adamw";  // sgd | adam | adamw
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0, momentum = 0.0;
};

// Owns the moments of `parameters`, which it changes in place. Weight decay is added to the
// gradient in sgd and adam, and shrinks the weight itself in adamw.
class Optimizer {
 public:
  // float32 or float64 parameters, contiguous, all on one device; `names` key the saved state.
  // Throws UsageError for an unknown optimiser or a value out of range.
  Optimizer(const OptimizerSpec& spec, std::vector<std::string> names,
            std::vector<at::Tensor> parameters);

  // One update at rate spec.lr * lr_factor. `gradients` are in the order of the parameters; an
  // undefined one leaves its parameter, moments and step count untouched, as in torch.optim.
  void Step(const std::vector<at::Tensor>& gradients, double lr_factor = 1.0);

  // "exp_avg.NAME", "exp_avg_sq.NAME", "momentum.NAME" and "steps" (float32, one a parameter).
  // Shares storage with the optimiser.
  StateDict State() const;
  // Copies a saved state in. Throws Error for a missing tensor or another shape.
  void Load(const StateDict& state);

 private:
  void AdamStep(const std::vector<size_t>& moved, const std::vector<at::Tensor>& gradients,
                double lr);
  void SgdStep(const std::vector<size_t>& moved, const std::vector<at::Tensor>& gradients,
               double lr);

  OptimizerSpec spec_;
  std::vector<std::string> names_;
  std::vector<at::Tensor> parameters_, first_, second_;  // second_ is empty for sgd
  at::Tensor steps_;                                     // float32, one a parameter
  std::vector<at::Tensor> step_views_;                   // scalars that alias steps_
};

// L2 norm over all defined tensors, as torch.nn.utils.get_total_norm; 0 when there is none.
double GlobalNorm(const std::vector<at::Tensor>& tensors);
// Scales the tensors in place by min(1, max_norm / (norm + 1e-6)), as clip_grad_norm_.
void ClipByNorm(std::vector<at::Tensor>* tensors, double max_norm, double norm);

}  // namespace excise
