#include "models/samplers/samplers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/quantile.h>
#include <fmt/format.h>

#include "core/error.h"

namespace excise {

at::Tensor PredictedX0(const SchedulerConfig& config, const at::Tensor& model_output,
                       const at::Tensor& sample, NoiseLevel level) {
  if (config.prediction_type == "epsilon") {
    return (sample - level.noise * model_output) / level.signal;
  }
  if (config.prediction_type == "v_prediction") {
    return level.signal * sample - level.noise * model_output;
  }
  return model_output;
}

at::Tensor ClippedX0(const SchedulerConfig& config, at::Tensor x0) {
  if (config.thresholding) {
    const at::Tensor limit = at::quantile(x0.abs().flatten(1), config.dynamic_thresholding_ratio, 1)
                                 .clamp(1.0, config.sample_max_value)
                                 .reshape({-1, 1, 1, 1});
    return at::clamp(x0, -limit, limit) / limit;
  }
  if (config.clip_sample) return x0.clamp(-config.clip_sample_range, config.clip_sample_range);
  return x0;
}

void InOrder::Check(size_t index) {
  if (index != calls_) {
    throw Error(
        fmt::format("{} keeps a history: step {} was called after step {}. Use a new sampler for "
                    "every batch and call its steps in order.",
                    sampler_, index, calls_));
  }
  ++calls_;
}

}  // namespace excise
