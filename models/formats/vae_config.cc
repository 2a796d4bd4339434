#include "models/formats/vae_config.h"

#include <fmt/format.h>

#include <utility>

#include "models/formats/config_reader.h"

namespace excise {
namespace {

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
  result.layers_per_block = reader.Int("layers_per_block", 1, 1, 20);
  result.norm_num_groups = reader.Int("norm_num_groups", 32);
  result.scaling_factor = reader.Real("scaling_factor", 0.18215);
  const size_t levels = result.block_out_channels.size();
  if (levels > 8) reader.Fail("block_out_channels", "at most 8 levels are supported");
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

}  // namespace excise
