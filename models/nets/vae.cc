#include "models/nets/vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "models/nets/layers.h"
#include "models/nets/nn.h"
#include "models/nets/unet_blocks.h"

namespace excise {
namespace {

constexpr double kNormEps = 1e-6;

// Self attention over all positions with one head as wide as the block.
at::Tensor AttentionBlock(const VaeConfig& config, const StateDict& weights,
                          const std::string& prefix, const at::Tensor& x) {
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const at::Tensor tokens =
      nn::GroupNorm(weights, prefix + ".group_norm", x, config.norm_num_groups, kNormEps)
          .reshape({batch, channels, height * width})
          .transpose(1, 2);
  const auto project = [&](const char* name) {
    return nn::Linear(weights, prefix + name, tokens).unsqueeze(1);
  };
  const at::Tensor attended =
      nn::Attention(project(".to_q"), project(".to_k"), project(".to_v"), {}, prefix).squeeze(1);
  const at::Tensor y = nn::Linear(weights, prefix + ".to_out.0", attended);
  return nn::Add(y.transpose(1, 2).reshape({batch, channels, height, width}), x);
}

at::Tensor Resnet(const VaeConfig& config, const StateDict& weights, const std::string& prefix,
                  const at::Tensor& x) {
  return ResnetBlock(weights, prefix, x, {}, config.norm_num_groups, kNormEps);
}

at::Tensor Middle(const VaeConfig& config, const StateDict& weights, const std::string& prefix,
                  at::Tensor x) {
  x = Resnet(config, weights, prefix + ".resnets.0", x);
  x = AttentionBlock(config, weights, prefix + ".attentions.0", x);
  return Resnet(config, weights, prefix + ".resnets.1", x);
}

at::Tensor Output(const VaeConfig& config, const StateDict& weights, const std::string& prefix,
                  const at::Tensor& x) {
  const at::Tensor h = nn::Silu(
      nn::GroupNorm(weights, prefix + ".conv_norm_out", x, config.norm_num_groups, kNormEps));
  return nn::Conv2d(weights, prefix + ".conv_out", h, 1, 1);
}

void CheckInput(const at::Tensor& x, int64_t channels, const char* what) {
  if (x.dim() == 4 && x.size(1) == channels) return;
  throw Error(fmt::format("VAE: the {} have shape [{}], (batch, {}, height, width) is expected.",
                          what, fmt::join(x.sizes(), ", "), channels));
}

}  // namespace

StateDict NormalizeVaeNames(const StateDict& weights) {
  static const std::pair<std::string, std::string> kRenames[] = {{".query.", ".to_q."},
                                                                 {".key.", ".to_k."},
                                                                 {".value.", ".to_v."},
                                                                 {".proj_attn.", ".to_out.0."}};
  StateDict result;
  for (const auto& [old_name, old_tensor] : weights) {
    std::string name = old_name;
    at::Tensor tensor = old_tensor;
    if (name.find(".mid_block.attentions.0.") != std::string::npos) {
      for (const auto& [from, to] : kRenames) {
        const size_t found = name.find(from);
        if (found != std::string::npos) name.replace(found, from.size(), to);
      }
      if (tensor.dim() == 4 && tensor.size(2) == 1 && tensor.size(3) == 1) {
        tensor = tensor.reshape({tensor.size(0), tensor.size(1)});
      }
    }
    result.Set(std::move(name), std::move(tensor));
  }
  return result;
}

VaeMoments VaeEncode(const VaeConfig& config, const StateDict& weights, const at::Tensor& images) {
  CheckInput(images, config.in_channels, "images");
  const size_t levels = config.block_out_channels.size();
  const at::Tensor input = nn::As(weights, "encoder.conv_norm_out.weight", images);
  at::Tensor x = nn::Conv2d(weights, "encoder.conv_in", input, 1, 1);
  for (size_t i = 0; i < levels; ++i) {
    const std::string block = fmt::format("encoder.down_blocks.{}", i);
    for (int64_t j = 0; j < config.layers_per_block; ++j) {
      x = Resnet(config, weights, fmt::format("{}.resnets.{}", block, j), x);
    }
    if (i + 1 < levels) {
      // One row and column at the right and bottom only, unlike the U-Net's downsampling.
      x = at::constant_pad_nd(x, {0, 1, 0, 1}, 0);
      x = nn::Conv2d(weights, block + ".downsamplers.0.conv", x, 2, 0);
    }
  }
  x = Output(config, weights, "encoder", Middle(config, weights, "encoder.mid_block", x));
  at::Tensor moments = nn::Conv2d(weights, "quant_conv", x);
  if (!input.is_same(images)) moments = moments.to(images.options()).contiguous();
  const int64_t half = config.latent_channels;
  return {moments.narrow(1, 0, half), moments.narrow(1, half, half).clamp(-30.0, 20.0)};
}

at::Tensor VaeDecode(const VaeConfig& config, const StateDict& weights, const at::Tensor& latents) {
  CheckInput(latents, config.latent_channels, "latents");
  const size_t levels = config.block_out_channels.size();
  const at::Tensor input = nn::As(weights, "decoder.conv_norm_out.weight", latents);
  at::Tensor x = nn::Conv2d(weights, "post_quant_conv", input);
  x = nn::Conv2d(weights, "decoder.conv_in", x, 1, 1);
  x = Middle(config, weights, "decoder.mid_block", x);
  for (size_t i = 0; i < levels; ++i) {
    const std::string block = fmt::format("decoder.up_blocks.{}", i);
    for (int64_t j = 0; j <= config.layers_per_block; ++j) {
      x = Resnet(config, weights, fmt::format("{}.resnets.{}", block, j), x);
    }
    if (i + 1 < levels) {
      x = at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
      x = nn::Conv2d(weights, block + ".upsamplers.0.conv", x, 1, 1);
    }
  }
  x = Output(config, weights, "decoder", x);
  return input.is_same(latents) ? x : x.to(latents.options()).contiguous();
}

StateDict InitVae(const VaeConfig& config, uint64_t seed) {
  return InitLayers(VaeLayers(config), seed);
}

}  // namespace excise
