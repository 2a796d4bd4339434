// bfloat16 weights in oneDNN's own layout (opaque tensors), so that a CPU does not rearrange every
// weight at every call. Sizes and dtype are the weight's; PackedDense gives its values back. A
// LibTorch without these operators packs nothing, and everything works, slower.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace excise {

// `weight` packed for PackedConv2d (4 dimensions) or PackedLinear (2); itself where that cannot be.
at::Tensor Pack(const at::Tensor& weight);
inline bool IsPacked(const at::Tensor& weight) { return weight.is_mkldnn(); }
at::Tensor PackedDense(const at::Tensor& weight);

// No gradients. x (batch, in, h, w), any layout; returns channels-last.
at::Tensor PackedConv2d(const at::Tensor& x, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias, int64_t stride, int64_t padding);
// No gradients. x (..., in) -> (..., out).
at::Tensor PackedLinear(const at::Tensor& x, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias);

}  // namespace excise
