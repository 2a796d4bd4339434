#include "models/formats/unet_config.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "models/formats/config_reader.h"

namespace excise {
namespace {

constexpr const char* kCrossDown = "CrossAttnDownBlock2D";
constexpr const char* kCrossUp = "CrossAttnUpBlock2D";
// Twice what any published model has; a file must not make us list layers without end.
constexpr size_t kMostLevels = 8;
constexpr int64_t kMostLayers = 20;

// Keys of diffusers' class that select another architecture: only their default is implemented.
void RefuseOtherArchitectures(ConfigReader* reader) {
  for (const char* key :
       {"class_embed_type", "addition_embed_type", "addition_time_embed_dim", "num_class_embeds",
        "encoder_hid_dim", "encoder_hid_dim_type", "time_cond_proj_dim", "time_embedding_dim",
        "time_embedding_act_fn", "timestep_post_act", "projection_class_embeddings_input_dim",
        "cross_attention_norm", "reverse_transformer_layers_per_block"}) {
    reader->Only(key, nullptr);
  }
  for (const char* key : {"center_input_sample", "dual_cross_attention", "resnet_skip_time_act",
                          "class_embeddings_concat", "mid_block_only_cross_attention"}) {
    reader->Only(key, false);
  }
  reader->Only("act_fn", "silu");
  reader->Only("mid_block_type", "UNetMidBlock2DCrossAttn");
  reader->Only("resnet_time_scale_shift", "default");
  reader->Only("time_embedding_type", "positional");
  reader->Only("attention_type", "default");
  reader->Only("downsample_padding", 1);
  reader->Only("mid_block_scale_factor", 1);
  reader->Only("resnet_out_scale_factor", 1.0);
  reader->Only("conv_in_kernel", 3);
  reader->Only("conv_out_kernel", 3);
  reader->Only("dropout", 0.0);
  // Has a meaning only with addition_embed_type, which is refused above.
  reader->Ignore("addition_embed_type_num_heads");
}

void RefuseOnlyCrossAttention(const Json& config, ConfigReader* reader) {
  const auto found = config.find("only_cross_attention");
  if (found != config.end() && found->is_array() &&
      std::all_of(found->begin(), found->end(), [](const Json& entry) { return entry == false; })) {
    reader->Ignore("only_cross_attention");
    return;
  }
  reader->Only("only_cross_attention", false);
}

int64_t SampleSize(const Json& config, ConfigReader* reader) {
  const auto found = config.find("sample_size");
  if (found != config.end() && found->is_array()) {
    const std::vector<int64_t> sizes = reader->Ints("sample_size", {});
    return *std::max_element(sizes.begin(), sizes.end());
  }
  return reader->Int("sample_size", 64);
}

// diffusers calls the number of heads attention_head_dim (its issue 2011); one number or one a
// level.
std::vector<int64_t> NumHeads(const Json& config, ConfigReader* reader, size_t levels) {
  reader->Ignore("attention_head_dim");
  const std::string key =
      reader->Has("num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
  const auto found = config.find(key);
  std::vector<int64_t> heads = found != config.end() && found->is_array()
                                   ? reader->Ints(key, {})
                                   : std::vector<int64_t>(levels, reader->Int(key, 8));
  if (heads.size() != levels) {
    reader->Fail(key,
                 fmt::format("one number, or one for each of the {} levels, is expected", levels));
  }
  return heads;
}

void CheckBlocks(const ConfigReader& reader, const std::string& key,
                 const std::vector<std::string>& blocks, size_t levels, const std::string& plain,
                 const std::string& cross) {
  if (blocks.size() != levels) {
    reader.Fail(key, fmt::format("block_out_channels has {} levels; one block for each is expected",
                                 levels));
  }
  for (const std::string& block : blocks) {
    if (block != plain && block != cross) {
      reader.Fail(key,
                  fmt::format("'{}' is not supported; supported: {}, {}", block, plain, cross));
    }
  }
}

void CheckDivisibility(const UNetConfig& config, const ConfigReader& reader) {
  for (size_t i = 0; i < config.block_out_channels.size(); ++i) {
    const int64_t channels = config.block_out_channels[i];
    if (channels % config.norm_num_groups != 0) {
      reader.Fail("block_out_channels", fmt::format("{} is not a multiple of norm_num_groups {}",
                                                    channels, config.norm_num_groups));
    }
    // Sines and cosines share the width of the first level.
    if (channels % 2 != 0) {
      reader.Fail("block_out_channels", fmt::format("{} is not even", channels));
    }
    if (channels % config.num_heads[i] != 0) {
      reader.Fail(reader.Has("num_attention_heads") ? "num_attention_heads" : "attention_head_dim",
                  fmt::format("level {} has {} channels, which is not a multiple of its {} heads",
                              i, channels, config.num_heads[i]));
    }
  }
}

void AddResnet(LayerList* list, const std::string& prefix, int64_t in, int64_t out, int64_t time) {
  list->Norm(prefix + ".norm1", in);
  list->Conv(prefix + ".conv1", in, out, 3);
  list->Linear(prefix + ".time_emb_proj", time, out);
  list->Norm(prefix + ".norm2", out);
  list->Conv(prefix + ".conv2", out, out, 3);
  if (in != out) list->Conv(prefix + ".conv_shortcut", in, out, 1);
}

void AddAttention(LayerList* list, const std::string& prefix, int64_t channels, int64_t context) {
  list->Linear(prefix + ".to_q", channels, channels, false);
  list->Linear(prefix + ".to_k", context, channels, false);
  list->Linear(prefix + ".to_v", context, channels, false);
  list->Linear(prefix + ".to_out.0", channels, channels);
}

void AddTransformer(LayerList* list, const UNetConfig& config, const std::string& prefix,
                    int64_t channels) {
  const auto project = [&](const std::string& name) {
    if (config.use_linear_projection) {
      list->Linear(prefix + name, channels, channels);
    } else {
      list->Conv(prefix + name, channels, channels, 1);
    }
  };
  list->Norm(prefix + ".norm", channels);
  project(".proj_in");
  for (int64_t k = 0; k < config.transformer_layers_per_block; ++k) {
    const std::string block = fmt::format("{}.transformer_blocks.{}", prefix, k);
    list->Norm(block + ".norm1", channels);
    AddAttention(list, block + ".attn1", channels, channels);
    list->Norm(block + ".norm2", channels);
    AddAttention(list, block + ".attn2", channels, config.cross_attention_dim);
    list->Norm(block + ".norm3", channels);
    list->Linear(block + ".ff.net.0.proj", channels, 8 * channels);
    list->Linear(block + ".ff.net.2", 4 * channels, channels);
  }
  project(".proj_out");
}

void AddDownBlocks(LayerList* list, const UNetConfig& config, int64_t time) {
  const size_t levels = config.block_out_channels.size();
  int64_t in = config.block_out_channels.front();
  for (size_t i = 0; i < levels; ++i) {
    const int64_t out = config.block_out_channels[i];
    const std::string block = fmt::format("down_blocks.{}", i);
    for (int64_t j = 0; j < config.layers_per_block; ++j) {
      AddResnet(list, fmt::format("{}.resnets.{}", block, j), j == 0 ? in : out, out, time);
      if (config.down_block_types[i] == kCrossDown) {
        AddTransformer(list, config, fmt::format("{}.attentions.{}", block, j), out);
      }
    }
    if (i + 1 < levels) list->Conv(block + ".downsamplers.0.conv", out, out, 3);
    in = out;
  }
}

void AddUpBlocks(LayerList* list, const UNetConfig& config, int64_t time) {
  const auto& channels = config.block_out_channels;
  const size_t levels = channels.size();
  int64_t previous = channels.back();
  for (size_t i = 0; i < levels; ++i) {
    const size_t level = levels - 1 - i;
    const int64_t out = channels[level];
    // The last skip of a block comes from the level below in width (its own first convolution).
    const int64_t last_skip = channels[level == 0 ? 0 : level - 1];
    const std::string block = fmt::format("up_blocks.{}", i);
    for (int64_t j = 0; j <= config.layers_per_block; ++j) {
      const int64_t skip = j == config.layers_per_block ? last_skip : out;
      const int64_t hidden = j == 0 ? previous : out;
      AddResnet(list, fmt::format("{}.resnets.{}", block, j), hidden + skip, out, time);
      if (config.up_block_types[i] == kCrossUp) {
        AddTransformer(list, config, fmt::format("{}.attentions.{}", block, j), out);
      }
    }
    if (i + 1 < levels) list->Conv(block + ".upsamplers.0.conv", out, out, 3);
    previous = out;
  }
}

}  // namespace

UNetConfig ParseUNetConfig(const Json& config, std::string_view origin) {
  ConfigReader reader(config, origin);
  UNetConfig result;
  result.in_channels = reader.Int("in_channels", 4);
  result.out_channels = reader.Int("out_channels", 4);
  result.sample_size = SampleSize(config, &reader);
  result.block_out_channels = reader.Ints("block_out_channels", {320, 640, 1280, 1280});
  const size_t levels = result.block_out_channels.size();
  if (levels > kMostLevels) {
    reader.Fail("block_out_channels", fmt::format("at most {} levels are supported", kMostLevels));
  }
  result.down_block_types =
      reader.Texts("down_block_types", {kCrossDown, kCrossDown, kCrossDown, "DownBlock2D"});
  result.up_block_types =
      reader.Texts("up_block_types", {"UpBlock2D", kCrossUp, kCrossUp, kCrossUp});
  CheckBlocks(reader, "down_block_types", result.down_block_types, levels, "DownBlock2D",
              kCrossDown);
  CheckBlocks(reader, "up_block_types", result.up_block_types, levels, "UpBlock2D", kCrossUp);
  result.layers_per_block = reader.IntOrUniform("layers_per_block", 2, 1, kMostLayers);
  result.cross_attention_dim = reader.IntOrUniform("cross_attention_dim", 1280);
  result.transformer_layers_per_block =
      reader.IntOrUniform("transformer_layers_per_block", 1, 1, kMostLayers);
  result.norm_num_groups = reader.Int("norm_num_groups", 32);
  result.norm_eps = reader.Real("norm_eps", 1e-5);
  result.num_heads = NumHeads(config, &reader, levels);
  result.use_linear_projection = reader.Bool("use_linear_projection", false);
  result.upcast_attention = reader.Bool("upcast_attention", false);
  result.flip_sin_to_cos = reader.Bool("flip_sin_to_cos", true);
  result.freq_shift = reader.Real("freq_shift", 0);
  RefuseOtherArchitectures(&reader);
  RefuseOnlyCrossAttention(config, &reader);
  reader.Finish();
  CheckDivisibility(result, reader);
  return result;
}

Json UNetConfigToJson(const UNetConfig& config) {
  return Json{{"_class_name", "UNet2DConditionModel"},
              {"act_fn", "silu"},
              {"attention_head_dim", config.num_heads},
              {"block_out_channels", config.block_out_channels},
              {"center_input_sample", false},
              {"cross_attention_dim", config.cross_attention_dim},
              {"down_block_types", config.down_block_types},
              {"downsample_padding", 1},
              {"flip_sin_to_cos", config.flip_sin_to_cos},
              {"freq_shift", config.freq_shift},
              {"in_channels", config.in_channels},
              {"layers_per_block", config.layers_per_block},
              {"mid_block_scale_factor", 1},
              {"mid_block_type", "UNetMidBlock2DCrossAttn"},
              {"norm_eps", config.norm_eps},
              {"norm_num_groups", config.norm_num_groups},
              {"out_channels", config.out_channels},
              {"sample_size", config.sample_size},
              {"transformer_layers_per_block", config.transformer_layers_per_block},
              {"up_block_types", config.up_block_types},
              {"upcast_attention", config.upcast_attention},
              {"use_linear_projection", config.use_linear_projection}};
}

LayerList UNetLayers(const UNetConfig& config) {
  const int64_t first = config.block_out_channels.front();
  const int64_t last = config.block_out_channels.back();
  const int64_t time = 4 * first;  // width of the time embedding
  LayerList list;
  list.Conv("conv_in", config.in_channels, first, 3);
  list.Linear("time_embedding.linear_1", first, time);
  list.Linear("time_embedding.linear_2", time, time);
  AddDownBlocks(&list, config, time);
  AddResnet(&list, "mid_block.resnets.0", last, last, time);
  AddTransformer(&list, config, "mid_block.attentions.0", last);
  AddResnet(&list, "mid_block.resnets.1", last, last, time);
  AddUpBlocks(&list, config, time);
  list.Norm("conv_norm_out", first);
  list.Conv("conv_out", first, config.out_channels, 3);
  return list;
}

}  // namespace excise
