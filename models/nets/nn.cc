#include "models/nets/nn.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <optional>

#include "core/error.h"
#include "models/tensors/autograd.h"
#include "models/tensors/packed.h"

namespace excise::nn {
namespace {

// Up to here one softmax over the whole score matrix is faster on a CPU than the blocked kernel.
constexpr int64_t kPlainScores = 128 * 128;
constexpr int64_t kPlainHeadDim = 64;

thread_local bool plain_attention = false;

std::optional<at::Tensor> Bias(const StateDict& weights, const std::string& prefix) {
  const std::string name = prefix + ".bias";
  if (!weights.Contains(name)) return std::nullopt;
  return weights.Get(name);
}

// Whether a gradient may be asked for through an operation on `x`.
bool Recorded(const at::Tensor& x) { return c10::GradMode::is_enabled() && x.requires_grad(); }

// Whether a sum of both may overwrite y without changing its dtype or its layout.
bool InPlace(const at::Tensor& y, const at::Tensor& x) {
  return !c10::GradMode::is_enabled() && y.scalar_type() == x.scalar_type() &&
         (y.sizes() != x.sizes() || y.strides() == x.strides());
}

// On a CPU, oneDNN's float32 convolution of many channels over few positions waits for the weights,
// which it rearranges at every call; one matrix product over gathered neighbourhoods does not (1.2
// times faster at 16 x 16, 2 times at 8 x 8).
constexpr int64_t kFewPositions = 256, kManyChannels = 640;

bool PrefersProduct(const at::Tensor& x, const at::Tensor& weight, int64_t stride,
                    int64_t padding) {
  return !c10::GradMode::is_enabled() && x.device().is_cpu() && x.scalar_type() == at::kFloat &&
         weight.scalar_type() == at::kFloat && x.dim() == 4 && weight.size(2) == 3 &&
         weight.size(3) == 3 && stride == 1 && padding == 1 &&
         x.size(2) * x.size(3) <= kFewPositions && x.size(1) >= kManyChannels;
}

// On a CPU, LibTorch's group norm of channels-last maps below 1024 positions takes about 1 us a
// position (25 times that of contiguous ones in the emoji U-Net); copies take 1.5 ns an element.
constexpr int64_t kNormPositions = 1024, kNormChannels = 640;

bool NormsFasterContiguous(const at::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == at::kBFloat16 && x.dim() == 4 &&
         !x.is_contiguous() && x.size(2) * x.size(3) < kNormPositions && x.size(1) < kNormChannels;
}

// A 3 x 3 convolution with padding 1 as one product.
at::Tensor ProductConv2d(const at::Tensor& x, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias) {
  const int64_t batch = x.size(0), in = x.size(1), height = x.size(2), width = x.size(3);
  const at::Tensor padded = at::constant_pad_nd(x, {1, 1, 1, 1}, 0).contiguous();
  const int64_t image = padded.stride(0), plane = padded.stride(1), row = padded.stride(2);
  const at::Tensor columns =
      padded.as_strided({in, 3, 3, batch, height, width}, {plane, row, 1, image, row, 1})
          .reshape({in * 9, batch * height * width});
  const at::Tensor matrix = weight.reshape({weight.size(0), in * 9});
  const at::Tensor y =
      bias ? at::addmm(bias->unsqueeze(1), matrix, columns) : at::matmul(matrix, columns);
  return y.view({weight.size(0), batch, height, width}).transpose(0, 1).contiguous();
}

int64_t FanIn(at::IntArrayRef weight_shape) {
  int64_t fan_in = 1;
  for (size_t i = 1; i < weight_shape.size(); ++i) fan_in *= weight_shape[i];
  return fan_in;
}

}  // namespace

at::Tensor Linear(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                  LayerHooks* hooks) {
  const at::Tensor& weight = weights.Get(prefix + ".weight");
  at::Tensor y;
  if (!IsPacked(weight)) {
    y = at::linear(x, weight, Bias(weights, prefix));
  } else if (Recorded(x)) {
    y = at::linear(x, PackedDense(weight), Bias(weights, prefix));
  } else {
    y = PackedLinear(x, weight, Bias(weights, prefix));
  }
  if (hooks != nullptr && hooks->WantsLinear(prefix)) y = hooks->OnLinear(prefix, x, std::move(y));
  return y;
}

at::Tensor Conv2d(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                  int64_t stride, int64_t padding, LayerHooks* hooks) {
  const at::Tensor& weight = weights.Get(prefix + ".weight");
  const std::optional<at::Tensor> bias = Bias(weights, prefix);
  at::Tensor y;
  if (IsPacked(weight) && !Recorded(x)) {
    y = PackedConv2d(x, weight, bias, stride, padding);
  } else if (!IsPacked(weight) && PrefersProduct(x, weight, stride, padding)) {
    y = ProductConv2d(x, weight, bias);
  } else {
    y = at::conv2d(x, IsPacked(weight) ? PackedDense(weight) : weight, bias, {stride, stride},
                   {padding, padding});
  }
  if (hooks == nullptr || !hooks->WantsConvolution(prefix)) return y;
  return hooks->OnConvolution(prefix, x, std::move(y));
}

at::Tensor LayerNorm(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                     double eps) {
  const at::Tensor& weight = weights.Get(prefix + ".weight");
  return at::layer_norm(x, weight.sizes(), weight, Bias(weights, prefix), eps);
}

at::Tensor BatchNorm(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                     double eps) {
  return at::batch_norm(x, weights.Get(prefix + ".weight"), weights.Get(prefix + ".bias"),
                        weights.Get(prefix + ".running_mean"), weights.Get(prefix + ".running_var"),
                        /*training=*/false, /*momentum=*/0, eps, /*cudnn_enabled=*/false);
}

at::Tensor GroupNorm(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                     int64_t groups, double eps) {
  const at::Tensor input = NormsFasterContiguous(x) ? x.contiguous() : x;
  return at::group_norm(input, groups, weights.Get(prefix + ".weight"), Bias(weights, prefix), eps);
}

at::Tensor Silu(at::Tensor x) { return c10::GradMode::is_enabled() ? at::silu(x) : at::silu_(x); }

at::Tensor Add(at::Tensor y, const at::Tensor& x) { return InPlace(y, x) ? y.add_(x) : x + y; }

at::Tensor Multiply(at::Tensor y, const at::Tensor& x) { return InPlace(y, x) ? y.mul_(x) : x * y; }

at::Tensor As(const StateDict& weights, const std::string& name, const at::Tensor& x) {
  const at::Tensor& weight = weights.Get(name);
  return x.to(weight.device(), weight.scalar_type());
}

at::Tensor Normalised(const at::Tensor& x) {
  return x / x.norm(2, {-1}, /*keepdim=*/true).clamp_min(1e-12);
}

at::Tensor Activation(const std::string& name, const at::Tensor& x) {
  if (name == "quick_gelu") return x * at::sigmoid(1.702 * x);
  if (name == "gelu") return at::gelu(x);
  if (name == "silu") return at::silu(x);
  if (name == "relu") return at::relu(x);
  throw Error(fmt::format(
      "Unknown activation '{}'. Known: gelu, quick_gelu, relu, silu. The config.json probably "
      "describes a model that Excise does not implement.",
      name));
}

at::Tensor Attention(at::Tensor q, at::Tensor k, at::Tensor v, const at::Tensor& mask,
                     const std::string& name, LayerHooks* hooks) {
  bool wants_probabilities = false;
  if (hooks != nullptr) {
    if (hooks->WantsAttention(name)) hooks->OnAttention(name, &q, &k, &v);
    wants_probabilities = hooks->WantsProbabilities(name);
  }
  const int64_t head_dim = q.size(-1);
  const bool small = q.size(-2) * k.size(-2) <= kPlainScores && head_dim <= kPlainHeadDim;
  if (!plain_attention && !wants_probabilities && !small) {
    std::optional<at::Tensor> fused_mask;
    if (mask.defined()) fused_mask = mask.to(q.scalar_type());
    return at::scaled_dot_product_attention(q, k, v, fused_mask);
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  at::Tensor scores = at::matmul(q * scale, k.transpose(-2, -1));
  if (mask.defined()) scores = scores + mask.to(scores.scalar_type());
  at::Tensor probabilities = at::softmax(scores, -1);
  if (wants_probabilities) probabilities = hooks->OnProbabilities(name, std::move(probabilities));
  return at::matmul(probabilities, v);
}

PlainAttention::PlainAttention() : previous_(plain_attention) { plain_attention = true; }
PlainAttention::~PlainAttention() { plain_attention = previous_; }

void RequireFits(const std::string& origin, const std::string& network, at::IntArrayRef logits,
                 const std::function<at::Tensor()>& forward) {
  std::string problem;
  try {
    const NoGrad no_grad;
    const at::Tensor given = forward();
    if (given.sizes() == logits) return;
    problem = fmt::format("it gives [{}] and not [{}]", fmt::join(given.sizes(), ", "),
                          fmt::join(logits, ", "));
  } catch (const c10::Error& error) {
    problem = error.what_without_backtrace();
  } catch (const Error& error) {
    problem = error.what();
  }
  throw Error(
      fmt::format("{}: its tensors do not fit together as {}: {}. Convert the published "
                  "file again with tools/convert_weights.py.",
                  origin, network, problem));
}

at::Tensor InitNormal(at::IntArrayRef shape, double deviation, uint64_t seed,
                      const std::string& name) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  Philox philox(StreamKey{seed, name, 0, Stream::kInit, 0});
  float* data = tensor.data_ptr<float>();
  philox.FillNormal(data, static_cast<size_t>(tensor.numel()));
  const float factor = static_cast<float>(deviation);
  for (int64_t i = 0; i < tensor.numel(); ++i) data[i] *= factor;
  return tensor;
}

at::Tensor InitUniform(at::IntArrayRef shape, double bound, uint64_t seed,
                       const std::string& name) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  Philox philox(StreamKey{seed, name, 0, Stream::kInit, 0});
  float* data = tensor.data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    data[i] = static_cast<float>(philox.Uniform(-bound, bound));
  }
  return tensor;
}

void InitLayer(StateDict* weights, const std::string& prefix, at::IntArrayRef weight_shape,
               bool bias, uint64_t seed) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(FanIn(weight_shape)));
  const std::string weight_name = prefix + ".weight";
  weights->Set(weight_name, InitUniform(weight_shape, bound, seed, weight_name));
  if (!bias) return;
  const std::string bias_name = prefix + ".bias";
  weights->Set(bias_name, InitUniform({weight_shape[0]}, bound, seed, bias_name));
}

void InitNorm(StateDict* weights, const std::string& prefix, int64_t channels) {
  weights->Set(prefix + ".weight", at::ones({channels}, at::kFloat));
  weights->Set(prefix + ".bias", at::zeros({channels}, at::kFloat));
}

}  // namespace excise::nn
