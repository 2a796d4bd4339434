// What: a model that the user edited: a folder, a LoRA file, or replacement tensors
// Paper: none; LoRA: Hu et al., ICLR 2022, arXiv 2106.09685
// Equation: W = the folder's or the file's tensor where there is one, else W0; then, of a LoRA,
//   W + scale (alpha / rank) up down
// Reference: huggingface/diffusers and huggingface/peft (names of tensors, alpha)
// Deviations: none
// Needs: the parameter folder, lora or tensors; the same architecture as the backbone
// Caveats: one model stands for every concept, unless `concepts` says which it removes; what its
//   author knew is only what `uses` says; the folder's tokenizer and scheduler are not read
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/equal.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/text.h"
#include "methods/method.h"
#include "methods/snapshot/lora_file.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

std::string ShapeOf(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes(), ", "));
}

// Puts what differs from `base` into `out`; `base` must have a tensor of that name and shape.
void AddIfChanged(const StateDict& base, const std::string& name, const at::Tensor& tensor,
                  const std::string& origin, StateDict* out) {
  const at::Tensor& old = base.Get(name);
  if (tensor.sizes() != old.sizes()) {
    throw Error(fmt::format("{}: tensor '{}' is {}, the base model's {}: another model's.", origin,
                            name, ShapeOf(tensor), ShapeOf(old)));
  }
  const at::Tensor value = tensor.to(old.device(), at::kFloat);
  if (!at::equal(value, old.to(at::kFloat))) out->Set(name, value);
}

// Fields that make the same weights another model. Sizes of pictures do not.
void RequireSameConfig(Json base, Json edited, const std::string& where) {
  for (Json* config : {&base, &edited}) config->erase("sample_size");
  for (const auto& [key, value] : base.items()) {
    if (edited.contains(key) && edited[key] == value) continue;
    throw Error(fmt::format("{}: '{}' is {}, the base model's {}: another architecture.", where,
                            key, edited.contains(key) ? edited[key].dump() : "absent",
                            value.dump()));
  }
}

// Every tensor of the module must be in the folder; what a folder has beside them (a projection, a
// vision part) is not the text encoder's.
void AddModule(const StateDict& base, const StateDict& edited, const std::string& only,
               const fs::path& folder, StateDict* out) {
  for (const auto& [name, tensor] : base) {
    if (!StartsWith(name, only)) continue;
    AddIfChanged(base, name, edited.Get(name), folder.string(), out);
  }
}

void AddUNet(const Backbone& base, const fs::path& folder, Erased* erased) {
  UNetConfig config;
  StateDict weights;
  LoadUNet(folder, &config, &weights);
  RequireSameConfig(UNetConfigToJson(base.unet_config), UNetConfigToJson(config),
                    (folder / "config.json").string());
  AddModule(base.unet, weights, "", folder, &erased->unet);
}

void AddTextEncoder(const Backbone& base, const fs::path& folder, Erased* erased) {
  ClipConfig config;
  StateDict weights;
  LoadTextEncoder(folder, &config, &weights);
  ClipConfig old = base.clip;
  for (ClipConfig* one : {&old, &config}) {
    one->vision = {};
    one->projection_dim = one->text.projection_dim = 0;
    // Old configs name other special tokens; text states do not depend on them.
    one->text.bos_token_id = one->text.eos_token_id = one->text.pad_token_id = 0;
  }
  RequireSameConfig(ClipConfigToJson(old), ClipConfigToJson(config),
                    (folder / "config.json").string());
  AddModule(base.text_encoder, weights, "text_model.", folder, &erased->text_encoder);
}

void AddVae(const Backbone& base, const fs::path& folder, Erased* erased) {
  VaeConfig config;
  StateDict weights;
  LoadVae(folder, &config, &weights);
  RequireSameConfig(VaeConfigToJson(base.vae_config), VaeConfigToJson(config),
                    (folder / "config.json").string());
  AddModule(base.vae, weights, "", folder, &erased->vae);
}

using AddPart = void (*)(const Backbone&, const fs::path&, Erased*);
struct PartOf {
  const char *folder, *marks[4];  // `marks`: in config.json of a folder that holds this part alone
  AddPart add;
};
constexpr PartOf kParts[] = {
    {"unet", {"UNet2DConditionModel", "", "", ""}, AddUNet},
    {"text_encoder",
     {"CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel", "clip_text_model"},
     AddTextEncoder},
    {"vae", {"AutoencoderKL", "", "", ""}, AddVae}};

void RequireSamePrediction(const Backbone& base, const fs::path& folder) {
  const fs::path file = folder / "scheduler" / "scheduler_config.json";
  if (!fs::is_regular_file(file)) return;
  const Json config = ReadJsonFile(file);
  const Json given = config.is_object() && config.contains("prediction_type")
                         ? config["prediction_type"]
                         : Json("epsilon");
  if (given == base.scheduler.prediction_type) return;
  throw Error(fmt::format("{}: prediction_type {}, the base model's \"{}\": another model.",
                          file.string(), given.dump(), base.scheduler.prediction_type));
}

void AddFolder(const Backbone& base, const fs::path& folder, Erased* erased) {
  bool any = false;
  for (const PartOf& part : kParts) {
    if (!fs::is_directory(folder / part.folder)) continue;
    part.add(base, folder / part.folder, erased);
    any = true;
  }
  if (any) return RequireSamePrediction(base, folder);
  const fs::path file = folder / "config.json";
  if (!fs::is_regular_file(file)) {
    throw Error(
        fmt::format("{}: neither a pipeline (with a folder unet, text_encoder or vae) nor one "
                    "of these parts (with config.json). An adapter's folder goes to the "
                    "parameter 'lora'.",
                    folder.string()));
  }
  const Json config = ReadJsonFile(file);
  const std::string text = config.dump();
  for (const PartOf& part : kParts) {
    for (const std::string mark : part.marks) {
      if (mark.empty() || text.find("\"" + mark + "\"") == text.npos) continue;
      return part.add(base, folder, erased);
    }
  }
  throw Error(
      fmt::format("{}: names no class that is known (_class_name UNet2DConditionModel or "
                  "AutoencoderKL, architectures CLIPTextModel).",
                  file.string()));
}

// Where a replacement tensor belongs, by its name.
void AddTensor(const Backbone& base, const std::string& full_name, const at::Tensor& tensor,
               const std::string& origin, Erased* erased) {
  struct Place {
    const char* prefix;
    const StateDict* base;
    StateDict* out;
    std::string name;
  };
  std::vector<Place> fits;
  for (Place place : {Place{"unet.", &base.unet, &erased->unet, ""},
                      Place{"text_encoder.", &base.text_encoder, &erased->text_encoder, ""},
                      Place{"vae.", &base.vae, &erased->vae, ""}}) {
    const std::string prefix = place.prefix;
    const bool prefixed = StartsWith(full_name, prefix);
    const std::string bare = prefixed ? full_name.substr(prefix.size()) : full_name;
    for (const std::string& name : {bare, "text_model." + bare}) {
      if (!place.base->Contains(name)) continue;
      place.name = name;
      if (prefixed) fits.clear();
      fits.push_back(place);
      break;
    }
    if (prefixed) break;
  }
  if (fits.size() == 1)
    return AddIfChanged(*fits[0].base, fits[0].name, tensor, origin, fits[0].out);
  throw Error(fmt::format(
      "{}: tensor '{}' {}. Names are those of diffusers and transformers, with 'unet.', "
      "'text_encoder.' or 'vae.' before them where they need it; LoRAs go to the parameter 'lora'.",
      origin, full_name,
      fits.empty() ? "is none of the base model's" : "could belong to several parts"));
}

class Snapshot : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Path("folder", &folder_, "an edited pipeline, or its unet, text_encoder or vae");
    v.Path("tensors", &tensors_, "a .safetensors file of replacement tensors");
    v.Path("lora", &lora_, "a LoRA: a .safetensors file or an adapter's folder");
    v.Number("scale", &scale_, "strength of the LoRA", {.min = -100, .max = 100});
    v.Texts("concepts", &concepts_, "the concepts that it removes; none named: all");
    v.Texts("uses", &uses_, "what its author used: known_names, anchor, training_data, ...");
  }
  int version() const override { return 1; }
  std::vector<std::string> needs_one_of() const override { return {"folder", "tensors", "lora"}; }
  MethodTraits traits() const override {
    MethodTraits traits;
    traits.uses = uses_;
    traits.concepts = concepts_;
    return traits;
  }

  Erased Erase(Context&, const Backbone& base, const std::vector<Concept>&) const override {
    const NoGrad no_grad;
    Erased erased;
    if (!folder_.empty()) AddFolder(base, folder_, &erased);
    if (!tensors_.empty()) {
      if (fs::path(tensors_).extension() != ".safetensors") {
        throw Error(
            fmt::format("{}: a .safetensors file is expected. Pickled weights (.bin, .pt, "
                        ".ckpt) are never read: convert them.",
                        tensors_));
      }
      for (const auto& [name, tensor] : LoadSafetensors(tensors_)) {
        AddTensor(base, name, tensor, tensors_, &erased);
      }
    }
    if (!lora_.empty()) AddLora(base, &erased);
    return erased;
  }

 private:
  void AddLora(const Backbone& base, Erased* erased) const {
    for (const LoraLayer& layer : ReadLora(lora_, base)) {
      StateDict& out = layer.text_encoder ? erased->text_encoder : erased->unet;
      const StateDict& old = layer.text_encoder ? base.text_encoder : base.unet;
      const at::Tensor& weight = (out.Contains(layer.weight) ? out : old).Get(layer.weight);
      const at::Tensor change = LoraChange(layer, weight).to(weight.device());
      out.Set(layer.weight, at::add(weight.to(at::kFloat), change, scale_));
    }
  }

  std::string folder_, tensors_, lora_;
  double scale_ = 1;
  std::vector<std::string> concepts_, uses_;
};

const Registration<Method, Snapshot> registration;

}  // namespace
}  // namespace excise
