// Layers as free functions over a StateDict: "<prefix>.weight", "<prefix>.bias". All
// differentiable.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>

#include "core/random.h"
#include "models/nets/hooks.h"
#include "models/tensors/state_dict.h"

namespace excise::nn {

// Bias is used when "<prefix>.bias" exists. `hooks` sees x and y when it wants this layer.
at::Tensor Linear(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                  LayerHooks* hooks = nullptr);
at::Tensor Conv2d(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                  int64_t stride = 1, int64_t padding = 0, LayerHooks* hooks = nullptr);
at::Tensor LayerNorm(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                     double eps);
at::Tensor GroupNorm(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                     int64_t groups, double eps);
// By the running statistics, "<prefix>.running_mean" and "<prefix>.running_var".
at::Tensor BatchNorm(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                     double eps);
// SiLU(y), y + x and y * x: in y's memory, which must be the caller's alone, where no gradients are
// recorded.
at::Tensor Silu(at::Tensor y);
at::Tensor Add(at::Tensor y, const at::Tensor& x);
at::Tensor Multiply(at::Tensor y, const at::Tensor& x);
// x on the device and in the dtype of the tensor `name`.
at::Tensor As(const StateDict& weights, const std::string& name, const at::Tensor& x);
// x / |x| over the last dimension, in Euclidean length.
at::Tensor Normalised(const at::Tensor& x);
// "quick_gelu" (x * sigmoid(1.702 x)), "gelu" (erf), "silu", "relu". Throws Error on another name.
at::Tensor Activation(const std::string& name, const at::Tensor& x);

// softmax(q k^T / sqrt(d) + mask) v for (batch, heads, tokens, head_dim). Small sizes use the plain
// form, large ones the fused kernel; `hooks` (with `name`) may see q, k, v and probabilities.
at::Tensor Attention(at::Tensor q, at::Tensor k, at::Tensor v, const at::Tensor& mask,
                     const std::string& name, LayerHooks* hooks = nullptr);
// While alive, Attention in this thread uses the plain form, which has a second derivative.
class PlainAttention {
 public:
  PlainAttention();
  ~PlainAttention();

 private:
  bool previous_;
};

// Whether a published network's tensors are all there and fit: `forward` passes one empty picture
// through all layers. Throws Error, naming `origin`, else, and where the logits have another shape.
void RequireFits(const std::string& origin, const std::string& network, at::IntArrayRef logits,
                 const std::function<at::Tensor()>& forward);

// Initialisers; each tensor draws from Philox(seed, tensor name).
at::Tensor InitNormal(at::IntArrayRef shape, double deviation, uint64_t seed,
                      const std::string& name);
at::Tensor InitUniform(at::IntArrayRef shape, double bound, uint64_t seed, const std::string& name);
// PyTorch's default for linear and convolution layers: U(+-1/sqrt(fan_in)) for weight and bias.
void InitLayer(StateDict* weights, const std::string& prefix, at::IntArrayRef weight_shape,
               bool bias, uint64_t seed);
// weight = 1, bias = 0.
void InitNorm(StateDict* weights, const std::string& prefix, int64_t channels);

}  // namespace excise::nn
