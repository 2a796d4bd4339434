#include "methods/snapshot/lora_file.h"

#include <ATen/ops/matmul.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "core/read_file.h"
#include "core/text.h"
#include "methods/snapshot/lora_strength.h"
#include "models/formats/safetensors_header.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

enum class Part { kDown, kUp, kAlpha };

struct Suffix {
  const char* text;
  Part part;
};
// The longer of two that fit comes first.
constexpr Suffix kSuffixes[] = {{".lora_linear_layer.down.weight", Part::kDown},
                                {".lora_linear_layer.up.weight", Part::kUp},
                                {".lora.down.weight", Part::kDown},
                                {".lora.up.weight", Part::kUp},
                                {"_lora.down.weight", Part::kDown},
                                {"_lora.up.weight", Part::kUp},
                                {".lora_down.weight", Part::kDown},
                                {".lora_up.weight", Part::kUp},
                                {".lora_A.weight", Part::kDown},
                                {".lora_B.weight", Part::kUp},
                                {".lora_linear_layer.alpha", Part::kAlpha},
                                {".lora.alpha", Part::kAlpha},
                                {"_lora.alpha", Part::kAlpha},
                                {".alpha", Part::kAlpha}};

// What is more than a sum of two factors.
constexpr const char* kOtherKinds[][2] = {{"lora_magnitude_vector", "DoRA"},
                                          {"dora_scale", "DoRA"},
                                          {"hada_", "LoHa"},
                                          {"lokr_", "LoKr"},
                                          {"lora_mid", "a CP-decomposed LoRA (LoCon)"},
                                          {"oft_", "OFT"},
                                          {"lora_embedding", "a LoRA of embeddings"},
                                          {"lora_B.bias", "a LoRA with biases"},
                                          {"lora_te2_", "a LoRA of SDXL"},
                                          {"ia3_", "IA3"}};

bool Strip(std::string* text, const std::string& prefix) {
  if (!StartsWith(*text, prefix)) return false;
  text->erase(0, prefix.size());
  return true;
}

void Replace(std::string* text, const std::string& from, const std::string& to) {
  const size_t at = text->find(from);
  if (at != text->npos) text->replace(at, from.size(), to);
}

// ".lora_A.default.weight" -> ".lora_A.weight": peft's name of the adapter.
std::string WithoutAdapter(const std::string& name) {
  for (const char* factor : {".lora_A.", ".lora_B."}) {
    const size_t at = name.rfind(factor);
    if (at == name.npos) continue;
    const size_t dot = name.find('.', at + 8);
    if (dot != name.npos && name.substr(dot) == ".weight")
      return name.substr(0, at + 7) + ".weight";
  }
  return name;
}

struct Pieces {
  at::Tensor down, up;
  std::optional<double> alpha;
};

// Which files, and what is said of the scale beside the tensors.
struct Source {
  fs::path weights;
  Json config = Json::object();  // adapter_config.json
  std::map<std::string, std::string> metadata;
};

Source Open(const fs::path& path) {
  Source source;
  source.weights = path;
  if (fs::is_directory(path)) {
    source.weights.clear();
    for (const char* name : {"adapter_model.safetensors", "pytorch_lora_weights.safetensors"}) {
      if (!fs::is_regular_file(path / name)) continue;
      if (!source.weights.empty()) {
        throw Error(fmt::format("{}: holds two LoRAs; name the file.", path.string()));
      }
      source.weights = path / name;
    }
    if (source.weights.empty()) {
      throw Error(
          fmt::format("{}: neither adapter_model.safetensors nor "
                      "pytorch_lora_weights.safetensors is in this folder. Pickled weights "
                      "(.bin, .pt) are never read: convert them to safetensors.",
                      path.string()));
    }
    if (fs::is_regular_file(path / "adapter_config.json")) {
      source.config = ReadJsonFile(path / "adapter_config.json");
    }
  } else if (path.filename() == "adapter_model.safetensors" &&
             fs::is_regular_file(path.parent_path() / "adapter_config.json")) {
    throw Error(
        fmt::format("{}: adapter_config.json beside it says how strong it is. Name the "
                    "folder instead of the file.",
                    path.string()));
  }
  if (source.weights.extension() != ".safetensors") {
    throw Error(
        fmt::format("{}: a .safetensors file or an adapter's folder is expected. Pickled "
                    "weights (.bin, .pt, .ckpt) are never read: convert them.",
                    path.string()));
  }
  source.metadata = ReadSafetensorsHeader(RegularFile(source.weights), source.weights).metadata;
  return source;
}

// The part of diffusers' metadata that is about one module, as peft's config.
Json DiffusersConfig(const Source& source, const std::string& module) {
  Json config = Json::object();
  const auto found = source.metadata.find("lora_adapter_metadata");
  if (found == source.metadata.end()) return config;
  const Json all = ParseJson(found->second, source.weights.string() + " metadata");
  if (!all.is_object()) return config;
  for (const auto& [key, value] : all.items()) {
    if (StartsWith(key, module + ".")) config[key.substr(module.size() + 1)] = value;
  }
  return config;
}

class Resolver {
 public:
  Resolver(const Backbone& base, std::string origin) : base_(base), origin_(std::move(origin)) {
    for (const bool text : {false, true}) {
      for (const auto& [name, tensor] : text ? base.text_encoder : base.unet) {
        if (!EndsWith(name, ".weight") || tensor.dim() < 2) continue;
        std::string flat = name.substr(0, name.size() - 7);
        for (char& c : flat) c = c == '.' ? '_' : c;
        flat_[text][flat] = name;
      }
    }
  }

  // Where the layer called `stem` in the file is in the base model.
  LoraLayer Resolve(const std::string& stem) const {
    std::string layer = stem;
    for (const auto& [prefix, text] : {std::pair<const char*, bool>{"lora_unet_", false},
                                       {"lora_te1_", true},
                                       {"lora_te_", true}}) {
      if (!Strip(&layer, prefix)) continue;
      const auto found = flat_[text].find(layer);
      if (found == flat_[text].end()) NoSuchLayer(stem, text);
      return {text, found->second, {}, {}, 1};
    }
    Strip(&layer, "base_model.model.");
    const bool unet = Strip(&layer, "unet."), text = !unet && Strip(&layer, "text_encoder.");
    if (!text) {
      std::string name = layer;
      Replace(&name, ".processor.", ".");
      if (EndsWith(name, ".to_out")) name += ".0";
      if (base_.unet.Contains(name + ".weight")) return {false, name + ".weight", {}, {}, 1};
    }
    if (!unet) {
      std::string name = StartsWith(layer, "text_model.") ? layer : "text_model." + layer;
      for (const auto& [old_name, new_name] :
           {std::pair<const char*, const char*>{".to_q", ".q_proj"},
            {".to_k", ".k_proj"},
            {".to_v", ".v_proj"},
            {".to_out", ".out_proj"}}) {
        if (EndsWith(name, old_name)) Replace(&name, old_name, new_name);
      }
      if (base_.text_encoder.Contains(name + ".weight")) return {true, name + ".weight", {}, {}, 1};
    }
    NoSuchLayer(stem, text);
  }

 private:
  [[noreturn]] void NoSuchLayer(const std::string& stem, bool text) const {
    throw Error(fmt::format(
        "{}: layer '{}' is none of the base model's {}. The LoRA was probably made for another "
        "model (this one is '{}').",
        origin_, stem, text ? "text encoder" : "U-Net or text encoder", base_.name));
  }

  const Backbone& base_;
  std::string origin_;
  std::map<std::string, std::string> flat_[2];
};

void CheckSizes(const LoraLayer& layer, const at::Tensor& weight, const std::string& stem,
                const std::string& origin) {
  const at::Tensor &down = layer.down, &up = layer.up;
  const bool good = down.dim() >= 2 && up.dim() >= 2 && down.size(0) > 0 &&
                    up.numel() == up.size(0) * up.size(1) && up.size(1) == down.size(0) &&
                    up.size(0) == weight.size(0) &&
                    down.numel() * weight.size(0) == weight.numel() * down.size(0) &&
                    down.size(1) == weight.size(1);
  if (good) return;
  throw Error(
      fmt::format("{}: layer '{}': down [{}] and up [{}] do not make a change of the shape "
                  "[{}] of '{}'. The LoRA was probably made for another model.",
                  origin, stem, fmt::join(down.sizes(), ", "), fmt::join(up.sizes(), ", "),
                  fmt::join(weight.sizes(), ", "), layer.weight));
}

std::map<std::string, Pieces> Collect(const StateDict& tensors, const std::string& origin) {
  std::map<std::string, Pieces> pieces;
  for (const auto& [full_name, tensor] : tensors) {
    for (const auto& [mark, kind] : kOtherKinds) {
      if (full_name.find(mark) == full_name.npos) continue;
      throw Error(fmt::format(
          "{}: tensor '{}' belongs to {}, which is not read. Merge it into the model with the "
          "software that made it, and name the merged folder by the parameter 'folder'.",
          origin, full_name, kind));
    }
    const std::string name = WithoutAdapter(full_name);
    const Suffix* fits = nullptr;
    for (const Suffix& suffix : kSuffixes) {
      if (fits == nullptr && EndsWith(name, suffix.text)) fits = &suffix;
    }
    if (fits == nullptr) {
      throw Error(fmt::format(
          "{}: tensor '{}' is no part of a LoRA in the names of diffusers, peft or kohya "
          "(lora.down, lora_A, lora_down, alpha). Whole replacement tensors go to the parameter "
          "'tensors'.",
          origin, full_name));
    }
    Pieces& layer = pieces[name.substr(0, name.size() - std::string(fits->text).size())];
    if (fits->part == Part::kAlpha) {
      if (tensor.numel() != 1) {
        throw Error(fmt::format("{}: '{}' is not one number.", origin, full_name));
      }
      layer.alpha = tensor.to(at::kDouble).item<double>();
      continue;
    }
    at::Tensor& place = fits->part == Part::kDown ? layer.down : layer.up;
    if (place.defined()) {
      throw Error(
          fmt::format("{}: '{}' comes twice: the file holds two adapters.", origin, full_name));
    }
    place = tensor.to(at::kFloat);
  }
  return pieces;
}

}  // namespace

std::vector<LoraLayer> ReadLora(const fs::path& path, const Backbone& base) {
  const Source source = Open(path);
  const std::string origin = source.weights.string();
  const LoraStrength peft(source.config, (path / "adapter_config.json").string());
  const LoraStrength unet(DiffusersConfig(source, "unet"), origin),
      text(DiffusersConfig(source, "text_encoder"), origin);
  const Resolver resolver(base, origin);
  std::map<std::pair<bool, std::string>, std::string> seen;
  std::vector<LoraLayer> layers;
  for (const auto& [stem, pieces] : Collect(LoadSafetensors(source.weights), origin)) {
    if (!pieces.down.defined() || !pieces.up.defined()) {
      throw Error(fmt::format("{}: layer '{}' has no '{}' part. The file is probably cut off.",
                              origin, stem, pieces.down.defined() ? "up" : "down"));
    }
    LoraLayer layer = resolver.Resolve(stem);
    const auto [other, first] = seen.emplace(std::pair(layer.text_encoder, layer.weight), stem);
    if (!first) {
      throw Error(fmt::format("{}: '{}' and '{}' both change '{}'.", origin, stem, other->second,
                              layer.weight));
    }
    layer.down = pieces.down;
    layer.up = pieces.up;
    const StateDict& weights = layer.text_encoder ? base.text_encoder : base.unet;
    CheckSizes(layer, weights.Get(layer.weight), stem, origin);
    const LoraStrength& strength = !source.config.empty() ? peft : layer.text_encoder ? text : unet;
    const std::string name = layer.weight.substr(0, layer.weight.size() - 7);
    layer.scale = strength.Scale(name, layer.down.size(0), pieces.alpha);
    layers.push_back(std::move(layer));
  }
  if (layers.empty()) throw Error(fmt::format("{}: holds no tensor.", origin));
  return layers;
}

at::Tensor LoraChange(const LoraLayer& layer, const at::Tensor& weight) {
  const at::Tensor up = layer.up.reshape({layer.up.size(0), layer.up.size(1)});
  const at::Tensor down = layer.down.reshape({layer.down.size(0), -1});
  return at::matmul(up, down).mul_(layer.scale).reshape(weight.sizes());
}

}  // namespace excise
