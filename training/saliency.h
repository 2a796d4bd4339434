// Which numbers of a model a loss hangs on, and how training is kept to them: the diagonal of the
// Fisher information (Kirkpatrick et al., PNAS 2017, arXiv 1612.00796) and saliency masks (Fan et
// al., ICLR 2024, arXiv 2310.12508).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "models/tensors/state_dict.h"

namespace excise {

// The loss of one sample: weights (leaves require grad), index -> scalar.
using SampleLoss = std::function<at::Tensor(const StateDict& weights, int64_t sample)>;

// Over samples 0 ... `samples` - 1, for each tensor of `names`: the mean gradient, and the mean of
// the squared gradients of single samples (where the loss is -log p of the sample: the empirical
// Fisher information's diagonal). Zero where the loss does not depend on a tensor. Throws Error
// naming the sample whose loss is no finite scalar or depends on none of them.
StateDict MeanGradients(const StateDict& weights, const std::vector<std::string>& names,
                        int64_t samples, const SampleLoss& loss);
StateDict FisherDiagonal(const StateDict& weights, const std::vector<std::string>& names,
                         int64_t samples, const SampleLoss& loss);

// Masks are bool tensors by name, true where a number may move; TrainSpec::mask takes them.
// The `fraction` in (0, 1] of all numbers of all tensors whose |score| is largest, rounded down.
// What equals the last one that is taken is taken as well, but a score of 0 never is. Throws
// UsageError when it takes none, Error when a score is not finite.
StateDict LargestMask(const StateDict& scores, double fraction);
// |score| > threshold.
StateDict AboveMask(const StateDict& scores, double threshold);

// For Train: the mask of each parameter, undefined where all of it may move. Throws UsageError for
// a mask of another shape, of another type, or of what is no parameter.
std::vector<at::Tensor> MasksOf(const StateDict& masks, const std::vector<std::string>& names,
                                const std::vector<at::Tensor>& parameters);
// SHA-256 over names and bytes.
std::string MaskDigest(const StateDict& masks);

}  // namespace excise
