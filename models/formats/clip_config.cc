// Keys that do not change the architecture (generation settings, dropout) are many and are not
// read.
#include "models/formats/clip_config.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "models/formats/config_reader.h"

namespace excise {
namespace {

void CheckHeads(const ConfigReader& reader, int64_t hidden, int64_t heads) {
  if (hidden % heads != 0) {
    reader.Fail("num_attention_heads", fmt::format("hidden_size {} is no multiple of it", hidden));
  }
}

std::string Activation(ConfigReader* reader) {
  return reader->Choice("hidden_act", "quick_gelu", {"gelu", "quick_gelu", "relu", "silu"});
}

// Defaults are those of transformers' CLIPTextConfig.
ClipTextConfig ParseText(const Json& json, const std::string& origin) {
  ConfigReader reader(json, origin);
  ClipTextConfig text;
  text.vocab_size = reader.Int("vocab_size", 49408);
  text.hidden_size = reader.Int("hidden_size", 512);
  text.intermediate_size = reader.Int("intermediate_size", 2048);
  text.num_hidden_layers = reader.Int("num_hidden_layers", 12, 1, 1000);
  text.num_attention_heads = reader.Int("num_attention_heads", 8);
  text.max_position_embeddings = reader.Int("max_position_embeddings", 77);
  text.projection_dim = reader.Int("projection_dim", 512);
  text.bos_token_id = reader.Int("bos_token_id", 49406, 0);
  text.eos_token_id = reader.Int("eos_token_id", 49407, 0);
  text.pad_token_id = reader.Int("pad_token_id", 1, 0);
  text.layer_norm_eps = reader.Real("layer_norm_eps", 1e-5);
  text.hidden_act = Activation(&reader);
  CheckHeads(reader, text.hidden_size, text.num_attention_heads);
  return text;
}

// Defaults are those of transformers' CLIPVisionConfig.
ClipVisionConfig ParseVision(const Json& json, const std::string& origin) {
  ConfigReader reader(json, origin);
  ClipVisionConfig vision;
  vision.hidden_size = reader.Int("hidden_size", 768);
  vision.intermediate_size = reader.Int("intermediate_size", 3072);
  vision.num_hidden_layers = reader.Int("num_hidden_layers", 12, 1, 1000);
  vision.num_attention_heads = reader.Int("num_attention_heads", 12);
  vision.image_size = reader.IntOrUniform("image_size", 224);
  vision.patch_size = reader.IntOrUniform("patch_size", 32);
  vision.projection_dim = reader.Int("projection_dim", 512);
  vision.layer_norm_eps = reader.Real("layer_norm_eps", 1e-5);
  vision.hidden_act = Activation(&reader);
  reader.Only("num_channels", 3);
  CheckHeads(reader, vision.hidden_size, vision.num_attention_heads);
  if (vision.patch_size > vision.image_size) {
    reader.Fail("patch_size", fmt::format("larger than image_size {}", vision.image_size));
  }
  return vision;
}

// Configs of openai/clip-vit-* carry both "text_config" and "text_config_dict"; transformers lets
// the latter, completed with defaults, override the former.
Json SectionOf(const Json& config, const char* key) {
  const std::string dict = std::string(key) + "_dict";
  for (const std::string& name : {dict, std::string(key)}) {
    auto it = config.find(name);
    if (it != config.end() && !it->is_null()) return *it;
  }
  return Json::object();
}

}  // namespace

ClipConfig ParseClipConfig(const Json& config, std::string_view origin) {
  const std::string where(origin);
  ConfigReader reader(config, origin);
  const std::string type =
      reader.Choice("model_type", "", {"clip", "clip_text_model", "clip_vision_model"});
  ClipConfig result;
  if (type == "clip_text_model") {
    result.text = ParseText(config, where);
    result.projection_dim = result.text.projection_dim;
  } else if (type == "clip_vision_model") {
    result.vision = ParseVision(config, where);
    result.projection_dim = result.vision.projection_dim;
  } else {
    result.text = ParseText(SectionOf(config, "text_config"), where + " /text_config");
    result.vision = ParseVision(SectionOf(config, "vision_config"), where + " /vision_config");
    result.projection_dim = reader.Int("projection_dim", 512);
  }
  return result;
}

int64_t ClipElements(const ClipConfig& config) {
  const ClipTextConfig& text = config.text;
  const ClipVisionConfig& vision = config.vision;
  const auto layers = [](int64_t count, double width, double inner) {
    return static_cast<double>(count) *
           (4 * width * width + 2 * width * inner + 10 * width + inner);
  };
  const auto text_width = static_cast<double>(text.hidden_size);
  const auto vision_width = static_cast<double>(vision.hidden_size);
  const auto side = static_cast<double>(vision.patch_size);
  const double patches = std::pow(static_cast<double>(vision.image_size) / side, 2);
  const double sum =
      text_width * static_cast<double>(text.vocab_size + text.max_position_embeddings) +
      layers(text.num_hidden_layers, text_width, static_cast<double>(text.intermediate_size)) +
      vision_width * (3 * side * side + patches) +
      layers(vision.num_hidden_layers, vision_width,
             static_cast<double>(vision.intermediate_size)) +
      (text_width + vision_width) * static_cast<double>(config.projection_dim);
  return sum < 9e18 ? static_cast<int64_t>(sum) : INT64_MAX;
}

Json ClipConfigToJson(const ClipConfig& config) {
  const ClipTextConfig& text = config.text;
  const ClipVisionConfig& vision = config.vision;
  Json text_json = {{"model_type", "clip_text_model"},
                    {"vocab_size", text.vocab_size},
                    {"hidden_size", text.hidden_size},
                    {"intermediate_size", text.intermediate_size},
                    {"num_hidden_layers", text.num_hidden_layers},
                    {"num_attention_heads", text.num_attention_heads},
                    {"max_position_embeddings", text.max_position_embeddings},
                    {"projection_dim", text.projection_dim},
                    {"bos_token_id", text.bos_token_id},
                    {"eos_token_id", text.eos_token_id},
                    {"pad_token_id", text.pad_token_id},
                    {"layer_norm_eps", text.layer_norm_eps},
                    {"hidden_act", text.hidden_act}};
  Json vision_json = {{"model_type", "clip_vision_model"},
                      {"hidden_size", vision.hidden_size},
                      {"intermediate_size", vision.intermediate_size},
                      {"num_hidden_layers", vision.num_hidden_layers},
                      {"num_attention_heads", vision.num_attention_heads},
                      {"num_channels", 3},
                      {"image_size", vision.image_size},
                      {"patch_size", vision.patch_size},
                      {"projection_dim", vision.projection_dim},
                      {"layer_norm_eps", vision.layer_norm_eps},
                      {"hidden_act", vision.hidden_act}};
  return {{"model_type", "clip"},
          {"architectures", {"CLIPModel"}},
          {"projection_dim", config.projection_dim},
          {"logit_scale_init_value", 2.6592},
          {"text_config", std::move(text_json)},
          {"vision_config", std::move(vision_json)}};
}

}  // namespace excise
