#include "models/vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "models/config_reader.h"
#include "models/nn.h"
#include "models/unet_blocks.h"

namespace excise {
namespace {

constexpr double kNormEps = 1e-6;

void AddResnet(LayerList* list, const std::string& prefix, int64_t in, int64_t out) {
  list->Norm(prefix + ".norm1", in);
  list->Conv(prefix + ".conv1", in, out, 3);
  list->Norm(prefix + ".norm2", out);
  list->Conv(prefix + ".conv2", out, out, 3);
  if (in != out) list->Conv(prefix + ".conv_shortcut", in, out, 1);
}

void AddMiddle(LayerList* list, const std::string& prefix, int64_t channels) {
  AddResnet(list, prefix + ".resnets.0", channels, channels);
  const std::string attention = prefix + ".attentions.0";
  list->Norm(attention + ".group_norm", channels);
  for (const char* name : {".to_q", ".to_k", ".to_v", ".to_out.0"}) {
    list->Linear(attention + name, channels, channels);
  }
  AddResnet(list, prefix + ".resnets.1", channels, channels);
}

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
  return x + y.transpose(1, 2).reshape({batch, channels, height, width});
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
  const at::Tensor h = at::silu(
      nn::GroupNorm(weights, prefix + ".conv_norm_out", x, config.norm_num_groups, kNormEps));
  return nn::Conv2d(weights, prefix + ".conv_out", h, 1, 1);
}

void CheckInput(const at::Tensor& x, int64_t channels, const char* what) {
  if (x.dim() == 4 && x.size(1) == channels) return;
  throw Error(fmt::format("VAE: the {} have shape [{}], (batch, {}, height, width) is expected.",
                          what, fmt::join(x.sizes(), ", "), channels));
}

void CheckBlocks(ConfigReader* reader, const std::string& key, const std::string& block,
                 size_t levels) {
  for (const std::string& name : reader->Texts(key, std::vector<std::string>(levels, block))) {
    if (name != block) reader->Fail(key, fmt::format("only {} is supported", block));
  }
}

}  // namespace

VaeConfig ParseVaeConfig(const Json& config, std::string_view origin) {
  ConfigReader reader(config, origin);
  VaeConfig result;
  result.in_channels = reader.Int("in_channels", 3);
  result.out_channels = reader.Int("out_channels", 3);
  result.latent_channels = reader.Int("latent_channels", 4);
  result.sample_size = reader.IntOrUniform("sample_size", 32);
  result.block_out_channels = reader.Ints("block_out_channels", {64});
  result.layers_per_block = reader.Int("layers_per_block", 1);
  result.norm_num_groups = reader.Int("norm_num_groups", 32);
  result.scaling_factor = reader.Real("scaling_factor", 0.18215);
  const size_t levels = result.block_out_channels.size();
  for (const auto& [key, block] : {std::pair("down_block_types", "DownEncoderBlock2D"),
                                   std::pair("up_block_types", "UpDecoderBlock2D")}) {
    CheckBlocks(&reader, key, block, levels);
    if (reader.Has(key) && config[key].size() != levels) {
      reader.Fail(key, fmt::format("block_out_channels has {} levels", levels));
    }
  }
  reader.Only("act_fn", "silu");
  for (const char* key : {"shift_factor", "latents_mean", "latents_std"}) {
    reader.Only(key, nullptr);
  }
  for (const char* key : {"use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"}) {
    reader.Only(key, true);
  }
  reader.Ignore("force_upcast");  // about half precision; weights are float32 here
  reader.Finish();
  for (const int64_t channels : result.block_out_channels) {
    if (channels % result.norm_num_groups != 0) {
      reader.Fail("block_out_channels", fmt::format("{} is not a multiple of norm_num_groups {}",
                                                    channels, result.norm_num_groups));
    }
  }
  if (!(result.scaling_factor > 0)) reader.Fail("scaling_factor", "a positive number is expected");
  return result;
}

Json VaeConfigToJson(const VaeConfig& config) {
  const size_t levels = config.block_out_channels.size();
  return Json{{"_class_name", "AutoencoderKL"},
              {"act_fn", "silu"},
              {"block_out_channels", config.block_out_channels},
              {"down_block_types", std::vector<std::string>(levels, "DownEncoderBlock2D")},
              {"in_channels", config.in_channels},
              {"latent_channels", config.latent_channels},
              {"layers_per_block", config.layers_per_block},
              {"norm_num_groups", config.norm_num_groups},
              {"out_channels", config.out_channels},
              {"sample_size", config.sample_size},
              {"scaling_factor", config.scaling_factor},
              {"up_block_types", std::vector<std::string>(levels, "UpDecoderBlock2D")}};
}

LayerList VaeLayers(const VaeConfig& config) {
  const auto& channels = config.block_out_channels;
  const size_t levels = channels.size();
  LayerList list;
  list.Conv("encoder.conv_in", config.in_channels, channels.front(), 3);
  int64_t in = channels.front();
  for (size_t i = 0; i < levels; ++i) {
    const std::string block = fmt::format("encoder.down_blocks.{}", i);
    for (int64_t j = 0; j < config.layers_per_block; ++j, in = channels[i]) {
      AddResnet(&list, fmt::format("{}.resnets.{}", block, j), in, channels[i]);
    }
    if (i + 1 < levels) list.Conv(block + ".downsamplers.0.conv", in, in, 3);
  }
  AddMiddle(&list, "encoder.mid_block", in);
  list.Norm("encoder.conv_norm_out", in);
  list.Conv("encoder.conv_out", in, 2 * config.latent_channels, 3);
  list.Conv("quant_conv", 2 * config.latent_channels, 2 * config.latent_channels, 1);
  list.Conv("post_quant_conv", config.latent_channels, config.latent_channels, 1);

  list.Conv("decoder.conv_in", config.latent_channels, in, 3);
  AddMiddle(&list, "decoder.mid_block", in);
  for (size_t i = 0; i < levels; ++i) {
    const std::string block = fmt::format("decoder.up_blocks.{}", i);
    const int64_t out = channels[levels - 1 - i];
    for (int64_t j = 0; j <= config.layers_per_block; ++j, in = out) {
      AddResnet(&list, fmt::format("{}.resnets.{}", block, j), in, out);
    }
    if (i + 1 < levels) list.Conv(block + ".upsamplers.0.conv", out, out, 3);
  }
  list.Norm("decoder.conv_norm_out", in);
  list.Conv("decoder.conv_out", in, config.out_channels, 3);
  return list;
}

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
  at::Tensor x = nn::Conv2d(weights, "encoder.conv_in", images, 1, 1);
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
  const at::Tensor moments = nn::Conv2d(weights, "quant_conv", x);
  const int64_t half = config.latent_channels;
  return {moments.narrow(1, 0, half), moments.narrow(1, half, half).clamp(-30.0, 20.0)};
}

at::Tensor VaeDecode(const VaeConfig& config, const StateDict& weights, const at::Tensor& latents) {
  CheckInput(latents, config.latent_channels, "latents");
  const size_t levels = config.block_out_channels.size();
  at::Tensor x = nn::Conv2d(weights, "post_quant_conv", latents);
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
  return Output(config, weights, "decoder", x);
}

StateDict InitVae(const VaeConfig& config, uint64_t seed) {
  return InitLayers(VaeLayers(config), seed);
}

}  // namespace excise
