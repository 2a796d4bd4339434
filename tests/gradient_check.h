// For tests: autograd against central differences in double precision.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "models/tensors/autograd.h"

namespace excise {

// Values sin(0.37 i + 1.3 k): a fixed, generic tensor that is easy to write in any language.
inline at::Tensor SineTensor(at::IntArrayRef shape, int k, at::ScalarType dtype = at::kDouble) {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  at::Tensor tensor = at::zeros({n}, at::kDouble);
  for (int64_t i = 0; i < n; ++i) {
    tensor.data_ptr<double>()[i] = std::sin(0.37 * static_cast<double>(i) + 1.3 * k);
  }
  return tensor.view(shape).to(dtype);
}

// Largest |autograd - central difference| over every element of `inputs` (double, contiguous), of
// sum(f * direction) with a fixed direction; relative to the largest gradient (at least 1).
inline double GradientError(const std::function<at::Tensor()>& f,
                            const std::vector<at::Tensor>& inputs) {
  for (const at::Tensor& input : inputs) input.requires_grad_(true);
  at::Tensor direction;
  auto loss = [&] {
    const at::Tensor y = f();
    if (!direction.defined()) direction = SineTensor(y.sizes(), 17);
    return y.mul(direction).sum();
  };
  const std::vector<at::Tensor> gradients = Gradients(loss(), inputs);
  const NoGrad no_grad;
  double error = 0, scale = 1;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!gradients[i].defined()) return INFINITY;
    const at::Tensor gradient = gradients[i].contiguous();
    double* values = inputs[i].data_ptr<double>();
    for (int64_t j = 0; j < inputs[i].numel(); ++j) {
      const double kept = values[j], step = 1e-5;
      values[j] = kept + step;
      const double above = loss().item<double>();
      values[j] = kept - step;
      const double below = loss().item<double>();
      values[j] = kept;
      const double expected = (above - below) / (2 * step);
      error = std::max(error, std::abs(gradient.data_ptr<double>()[j] - expected));
      scale = std::max(scale, std::abs(expected));
    }
  }
  return error / scale;
}

}  // namespace excise
