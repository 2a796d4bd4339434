// The erasing target that ESD introduced and later trained methods (Receler, STEREO, AdvUnlearn)
// share.
#pragma once

#include <ATen/core/Tensor.h>

namespace excise {

// eps(empty) - eta (eps(concept) - eps(empty)): where the edited model's prediction for the concept
// should point (arXiv 2303.07345, eq. 7). Both predictions are the frozen original's on the same
// latents; any shape.
inline at::Tensor EsdTarget(const at::Tensor& concept_prediction,
                            const at::Tensor& empty_prediction, double eta) {
  return empty_prediction.sub(concept_prediction.sub(empty_prediction), eta);
}

}  // namespace excise
