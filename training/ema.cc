#include "training/ema.h"

#include <ATen/ops/_foreach_lerp.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "models/tensors/autograd.h"

namespace excise {

Ema::Ema(double decay, const std::vector<at::Tensor>& parameters) : decay_(decay) {
  if (!(decay > 0 && decay < 1)) {
    throw UsageError(
        fmt::format("ema_decay is {}; it must be in (0, 1), or 0 for no average", decay));
  }
  const NoGrad no_grad;
  for (const at::Tensor& p : parameters) shadow_.push_back(p.detach().clone());
}

double Ema::Decay(double decay, int64_t update) {
  return std::min(decay,
                  (1.0 + static_cast<double>(update)) / (10.0 + static_cast<double>(update)));
}

void Ema::Update(const std::vector<at::Tensor>& parameters) {
  const NoGrad no_grad;
  at::_foreach_lerp_(shadow_, parameters, 1.0 - Decay(decay_, updates_));
  ++updates_;
}

}  // namespace excise
