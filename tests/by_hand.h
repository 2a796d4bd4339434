// For tests of trainings: what AdamW makes of gradients that the test computed itself.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros_like.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "models/tensors/autograd.h"
#include "models/tensors/state_dict.h"

namespace excise {

// Algorithm 2 of Loshchilov and Hutter (ICLR 2019, arXiv 1711.05101) with betas 0.9 and 0.999, in
// double precision: `steps` updates of the tensors `names` of `weights`, which it returns.
// `loss`(weights, step) is a scalar. A step's rate is lr times its factor, where there are any.
inline StateDict AdamWByHand(const StateDict& weights, const std::vector<std::string>& names,
                             int64_t steps, double lr, double weight_decay,
                             const std::function<at::Tensor(const StateDict&, int64_t)>& loss,
                             const std::vector<double>& factors = {}) {
  StateDict now = weights;
  std::map<std::string, at::Tensor> value, first, second;
  for (const std::string& name : names) {
    value[name] = weights.Get(name).to(at::kDouble);
    first[name] = second[name] = at::zeros_like(value[name]);
  }
  double beta1 = 1, beta2 = 1;
  for (int64_t step = 0; step < steps; ++step) {
    std::vector<at::Tensor> leaves;
    for (const std::string& name : names) {
      leaves.push_back(value[name].to(at::kFloat).requires_grad_(true));
      now.Set(name, leaves.back());
    }
    const std::vector<at::Tensor> gradients = Gradients(loss(now, step), leaves);
    const double rate = factors.empty() ? lr : lr * factors[static_cast<size_t>(step)];
    beta1 *= 0.9;
    beta2 *= 0.999;
    for (size_t i = 0; i < names.size(); ++i) {
      if (!gradients[i].defined()) continue;
      const at::Tensor g = gradients[i].to(at::kDouble);
      at::Tensor &w = value[names[i]], &m = first[names[i]], &v = second[names[i]];
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      w = w - rate * weight_decay * w -
          rate * (m / (1 - beta1)) / ((v / (1 - beta2)).sqrt() + 1e-8);
    }
  }
  for (const std::string& name : names) now.Set(name, value[name].to(at::kFloat));
  return now;
}

// The largest difference between tensors of one name, over the names of `some`.
inline double FurthestApart(const StateDict& some, const StateDict& all) {
  double furthest = 0;
  for (const auto& [name, tensor] : some) {
    furthest = std::max(furthest, (tensor - all.Get(name)).abs().max().item<double>());
  }
  return furthest;
}

}  // namespace excise
