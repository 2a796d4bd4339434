#include "models/nets/unet_blocks.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <fmt/format.h>

#include <cmath>

#include "models/nets/nn.h"

namespace excise {
namespace {

constexpr double kTransformerNormEps = 1e-6;  // GroupNorm at the entrance
constexpr double kLayerNormEps = 1e-5;

// (batch, tokens, channels) -> (batch, heads, tokens, channels / heads)
at::Tensor SplitHeads(const at::Tensor& x, int64_t heads) {
  return x.reshape({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

at::Tensor AttentionLayer(const StateDict& weights, const std::string& name, const at::Tensor& x,
                          const at::Tensor& states, int64_t heads, bool upcast, LayerHooks* hooks) {
  at::Tensor q = SplitHeads(nn::Linear(weights, name + ".to_q", x, hooks), heads);
  at::Tensor k = SplitHeads(nn::Linear(weights, name + ".to_k", states, hooks), heads);
  at::Tensor v = SplitHeads(nn::Linear(weights, name + ".to_v", states, hooks), heads);
  const at::ScalarType dtype = q.scalar_type();
  // float16 overflows; bfloat16 has the range of float32, and the kernels sum in float32.
  if (upcast && dtype == at::kHalf) {
    q = q.to(at::kFloat);
    k = k.to(at::kFloat);
    v = v.to(at::kFloat);
  }
  const at::Tensor attended = nn::Attention(q, k, v, {}, name, hooks).to(dtype);
  const at::Tensor merged =
      attended.transpose(1, 2).reshape({x.size(0), x.size(1), attended.size(1) * attended.size(3)});
  at::Tensor y = nn::Linear(weights, name + ".to_out.0", merged, hooks);
  if (hooks != nullptr && hooks->WantsAttention(name)) y = hooks->OnAttentionOutput(name, y);
  return y;
}

at::Tensor FeedForward(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                       LayerHooks* hooks) {
  const at::Tensor projected = nn::Linear(weights, prefix + ".net.0.proj", x, hooks);
  const int64_t half = projected.size(-1) / 2;
  const at::Tensor gated = nn::Multiply(at::gelu(projected.narrow(-1, half, half), "none"),
                                        projected.narrow(-1, 0, half));
  return nn::Linear(weights, prefix + ".net.2", gated, hooks);
}

at::Tensor TransformerBlock(const UNetConfig& config, const StateDict& weights,
                            const std::string& prefix, at::Tensor x, const at::Tensor& states,
                            int64_t heads, LayerHooks* hooks) {
  const auto norm = [&](const char* name) {
    return nn::LayerNorm(weights, prefix + name, x, kLayerNormEps);
  };
  const bool upcast = config.upcast_attention;
  const at::Tensor own = norm(".norm1");
  // A hook may keep what it returns.
  const auto sum = [&](at::Tensor y) {
    return hooks == nullptr ? nn::Add(std::move(y), x) : x + y;
  };
  x = sum(AttentionLayer(weights, prefix + ".attn1", own, own, heads, upcast, hooks));
  x = sum(AttentionLayer(weights, prefix + ".attn2", norm(".norm2"), states, heads, upcast, hooks));
  return sum(FeedForward(weights, prefix + ".ff", norm(".norm3"), hooks));
}

}  // namespace

at::Tensor ResnetBlock(const StateDict& weights, const std::string& prefix, const at::Tensor& x,
                       const at::Tensor& time, int64_t groups, double eps, LayerHooks* hooks) {
  // A hook may keep what it returns.
  const auto sum = [&](at::Tensor a, const at::Tensor& b) {
    return hooks == nullptr ? nn::Add(std::move(a), b) : a + b;
  };
  at::Tensor h = nn::Silu(nn::GroupNorm(weights, prefix + ".norm1", x, groups, eps));
  h = nn::Conv2d(weights, prefix + ".conv1", h, 1, 1, hooks);
  if (time.defined()) {
    const at::Tensor shift = nn::Linear(weights, prefix + ".time_emb_proj", time, hooks);
    h = sum(std::move(h), shift.unsqueeze(-1).unsqueeze(-1));
  }
  h = nn::Silu(nn::GroupNorm(weights, prefix + ".norm2", h, groups, eps));
  h = nn::Conv2d(weights, prefix + ".conv2", h, 1, 1, hooks);
  const bool widens = weights.Contains(prefix + ".conv_shortcut.weight");
  return sum(std::move(h),
             widens ? nn::Conv2d(weights, prefix + ".conv_shortcut", x, 1, 0, hooks) : x);
}

at::Tensor SpatialTransformer(const UNetConfig& config, const StateDict& weights,
                              const std::string& prefix, const at::Tensor& x,
                              const at::Tensor& states, int64_t heads, LayerHooks* hooks) {
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  at::Tensor h =
      nn::GroupNorm(weights, prefix + ".norm", x, config.norm_num_groups, kTransformerNormEps);
  const auto to_tokens = [&](const at::Tensor& y) {
    return y.permute({0, 2, 3, 1}).reshape({batch, height * width, channels});
  };
  const auto to_image = [&](const at::Tensor& y) {
    const at::Tensor image = y.reshape({batch, height, width, channels}).permute({0, 3, 1, 2});
    return image.contiguous(x.suggest_memory_format());
  };
  // Both orders are the same map; they are kept apart because linear layers can be hooked.
  if (config.use_linear_projection) {
    h = nn::Linear(weights, prefix + ".proj_in", to_tokens(h), hooks);
  } else {
    h = to_tokens(nn::Conv2d(weights, prefix + ".proj_in", h, 1, 0, hooks));
  }
  for (int64_t k = 0; k < config.transformer_layers_per_block; ++k) {
    h = TransformerBlock(config, weights, fmt::format("{}.transformer_blocks.{}", prefix, k), h,
                         states, heads, hooks);
  }
  if (config.use_linear_projection) {
    h = to_image(nn::Linear(weights, prefix + ".proj_out", h, hooks));
  } else {
    h = nn::Conv2d(weights, prefix + ".proj_out", to_image(h), 1, 0, hooks);
  }
  return hooks == nullptr ? nn::Add(std::move(h), x) : h + x;
}

at::Tensor TimestepEmbedding(const at::Tensor& timesteps, int64_t width, bool flip_sin_to_cos,
                             double freq_shift) {
  const int64_t half = width / 2;
  const at::TensorOptions options = timesteps.options().dtype(at::kFloat);
  const at::Tensor exponent =
      at::arange(half, options) * (-std::log(10000.0)) / (static_cast<double>(half) - freq_shift);
  const at::Tensor angles = timesteps.to(at::kFloat).unsqueeze(1) * exponent.exp().unsqueeze(0);
  return flip_sin_to_cos ? at::cat({angles.cos(), angles.sin()}, 1)
                         : at::cat({angles.sin(), angles.cos()}, 1);
}

}  // namespace excise
