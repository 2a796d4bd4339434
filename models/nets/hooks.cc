#include "models/nets/hooks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "core/error.h"

namespace excise {

std::vector<at::Tensor> HookRun::Rows(const GuidanceBatch& batch, int64_t /*step*/) {
  if (batch.guidance_scale == 1) return {batch.prompt_states};
  return {batch.empty_states, batch.prompt_states};
}

at::Tensor HookRun::Combine(const GuidanceBatch& batch, int64_t /*step*/,
                            const std::vector<at::Tensor>& predictions) {
  if (predictions.size() == 1) return predictions.front();
  if (predictions.size() != 2) {
    throw Error(
        fmt::format("Guidance hooks returned {} streams, but the default Combine takes 1 or "
                    "2: a run that overrides Rows must override Combine.",
                    predictions.size()));
  }
  // Classifier-free guidance (Ho and Salimans, arXiv 2207.12598).
  return predictions[0] + batch.guidance_scale * (predictions[1] - predictions[0]);
}

at::Tensor ImageFilter::Margin(const at::Tensor& images) const {
  return Score(images) - Threshold();
}

at::Tensor ImageFilter::Replacement(int64_t height, int64_t width) const {
  return at::zeros({3, height, width}, at::kFloat);
}

}  // namespace excise
