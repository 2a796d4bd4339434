// Exponential moving average of weights (Polyak & Juditsky 1992), as diffusion models use it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace excise {

// shadow <- d shadow + (1 - d) weight with d = min(decay, (1 + t) / (10 + t)) at the t-th update
// (t = 0, 1, ...): the growing window keeps the random initial weights out of short trainings.
class Ema {
 public:
  // Starts as a copy of `parameters`. decay in (0, 1), or UsageError.
  Ema(double decay, const std::vector<at::Tensor>& parameters);
  static double Decay(double decay, int64_t update);

  void Update(const std::vector<at::Tensor>& parameters);
  const std::vector<at::Tensor>& shadow() const { return shadow_; }
  // Sets the number of updates made; the shadow's values are copied in by the caller.
  void Resume(int64_t updates) { updates_ = updates; }

 private:
  double decay_;
  int64_t updates_ = 0;
  std::vector<at::Tensor> shadow_;
};

}  // namespace excise
