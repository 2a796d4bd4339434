#include "models/snapshots/backbone.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/json.h"
#include "core/progress.h"
#include "core/text.h"
#include "models/nets/layers.h"
#include "models/snapshots/snapshot.h"
#include "models/tensors/registered.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDiffusersStem = "diffusion_pytorch_model";
constexpr const char* kTransformersStem = "model";

fs::path ConfigFile(const fs::path& folder) { return folder / "config.json"; }

// `elements`: what config.json describes. Twice as many, and something for small models, leave it
// to the checks that follow to name the tensor that does not fit.
StateDict Weights(const fs::path& folder, const char* stem, const Compute& compute,
                  int64_t elements, const TensorChoice& wanted = nullptr) {
  constexpr int64_t kSlack = 1'000'000;
  const int64_t most = elements > INT64_MAX / 2 - kSlack ? INT64_MAX : 2 * elements + kSlack;
  return LoadSafetensorsFolder(folder, WeightStem(folder, stem), compute.dtype, most, wanted);
}

// transformers 5 saves a lone text model without "text_model."; older ones carry position_ids.
StateDict NormalizeTextNames(const StateDict& weights) {
  StateDict result;
  for (const auto& [name, tensor] : weights) {
    if (name.find("position_ids") != std::string::npos) continue;
    const bool bare = StartsWith(name, "embeddings.") || StartsWith(name, "encoder.") ||
                      StartsWith(name, "final_layer_norm.");
    result.Set(bare ? "text_model." + name : name, tensor);
  }
  return result;
}

void CheckShape(const StateDict& weights, const std::string& name, std::vector<int64_t> shape,
                const fs::path& folder) {
  const at::Tensor& tensor = weights.Get(name);
  if (tensor.sizes() == at::IntArrayRef(shape)) return;
  throw Error(
      fmt::format("{}: tensor '{}' has shape [{}], but config.json asks for [{}]. Check "
                  "that config.json and the weights are of the same model.",
                  folder.string(), name, fmt::join(tensor.sizes(), ", "), fmt::join(shape, ", ")));
}

void CheckText(const ClipTextConfig& config, const StateDict& weights, const fs::path& folder) {
  const std::string model = "text_model.";
  CheckShape(weights, model + "embeddings.token_embedding.weight",
             {config.vocab_size, config.hidden_size}, folder);
  CheckShape(weights, model + "embeddings.position_embedding.weight",
             {config.max_position_embeddings, config.hidden_size}, folder);
  CheckShape(weights, model + "final_layer_norm.weight", {config.hidden_size}, folder);
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    CheckShape(weights, fmt::format("{}encoder.layers.{}.mlp.fc1.weight", model, i),
               {config.intermediate_size, config.hidden_size}, folder);
  }
  // A text encoder with its last layer cut off is another model (Stable Diffusion 2 has 23 layers).
  if (weights.Contains(
          fmt::format("{}encoder.layers.{}.mlp.fc1.weight", model, config.num_hidden_layers))) {
    throw Error(fmt::format("{}: the weights have more layers than num_hidden_layers = {}.",
                            folder.string(), config.num_hidden_layers));
  }
}

void CheckParts(const Backbone& backbone) {
  const auto fail = [&](const std::string& what) {
    throw Error(fmt::format("{}: {}. The folder mixes parts of different models.",
                            backbone.folder.string(), what));
  };
  const ClipTextConfig& text = backbone.clip.text;
  if (text.hidden_size != backbone.unet_config.cross_attention_dim) {
    fail(fmt::format("the text encoder is {} wide, but unet/config.json has cross_attention_dim {}",
                     text.hidden_size, backbone.unet_config.cross_attention_dim));
  }
  if (backbone.vae_config.latent_channels != backbone.unet_config.in_channels ||
      backbone.unet_config.in_channels != backbone.unet_config.out_channels) {
    fail(fmt::format("the VAE has {} latent channels, the U-Net takes {} and returns {}",
                     backbone.vae_config.latent_channels, backbone.unet_config.in_channels,
                     backbone.unet_config.out_channels));
  }
  if (backbone.tokenizer->vocab_size() > text.vocab_size) {
    fail(fmt::format("the tokenizer has {} tokens, the text encoder {}",
                     backbone.tokenizer->vocab_size(), text.vocab_size));
  }
}

// "models/emoji/" and "models/emoji" are both called emoji.
std::string NameOf(const fs::path& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

void WarnOfDifferences(const RegisteredModel& model, const SnapshotFiles& files,
                       const fs::path& folder) {
  for (const std::string& difference : files.Differences(model.files)) {
    LogWarning(
        fmt::format("{}: {}. {} Another revision, or a model trained further: results are keyed by "
                    "what is there.",
                    folder.string(), difference, DescribeModel(model)));
  }
}

}  // namespace

bool IsOfTexts(const std::string& name) {
  return !StartsWith(name, "vision_model.") && name != "visual_projection.weight";
}

void LoadTextEncoder(const fs::path& folder, ClipConfig* config, StateDict* weights,
                     const Compute& compute, const TensorChoice& wanted) {
  *config = ParseClipConfig(ReadJsonFile(ConfigFile(folder)), ConfigFile(folder).string());
  *weights = NormalizeTextNames(
      Weights(folder, kTransformersStem, compute, ClipElements(*config), wanted));
  CheckText(config->text, *weights, folder);
  *weights = Place(std::move(*weights), compute);
}

void LoadUNet(const fs::path& folder, UNetConfig* config, StateDict* weights,
              const Compute& compute) {
  *config = ParseUNetConfig(ReadJsonFile(ConfigFile(folder)), ConfigFile(folder).string());
  const LayerList layers = UNetLayers(*config);
  *weights = Weights(folder, kDiffusersStem, compute, layers.elements());
  CheckLayers(layers, *weights, folder.string());
  *weights = Place(std::move(*weights), compute);
}

void LoadVae(const fs::path& folder, VaeConfig* config, StateDict* weights,
             const Compute& compute) {
  *config = ParseVaeConfig(ReadJsonFile(ConfigFile(folder)), ConfigFile(folder).string());
  const LayerList layers = VaeLayers(*config);
  *weights = NormalizeVaeNames(Weights(folder, kDiffusersStem, compute, layers.elements()));
  CheckLayers(layers, *weights, folder.string());
  *weights = Place(std::move(*weights), compute);
}

Backbone LoadBackbone(const fs::path& folder, const Compute& compute) {
  SnapshotFiles files(folder);
  files.NeedTokenizer(folder / "tokenizer", "tokenizer/");
  files.Need(folder / "text_encoder", "text_encoder/", "config.json");
  files.NeedWeights(folder / "text_encoder", "text_encoder/", kTransformersStem);
  for (const std::string part : {"unet", "vae"}) {
    files.Need(folder / part, part + "/", "config.json");
    files.NeedWeights(folder / part, part + "/", kDiffusersStem);
  }
  files.Need(folder / "scheduler", "scheduler/", "scheduler_config.json");
  const std::string name = NameOf(folder);
  const RegisteredModel* registered = FindRegisteredModel(name);
  files.Check("text-to-image pipeline", registered == nullptr ? "" : DescribeModel(*registered));

  Backbone backbone;
  backbone.name = name;
  backbone.folder = folder;
  backbone.tokenizer = Tokenizer::Load(folder / "tokenizer");
  LoadTextEncoder(folder / "text_encoder", &backbone.clip, &backbone.text_encoder, compute);
  LoadUNet(folder / "unet", &backbone.unet_config, &backbone.unet, compute);
  LoadVae(folder / "vae", &backbone.vae_config, &backbone.vae, compute);
  const fs::path scheduler = folder / "scheduler" / "scheduler_config.json";
  backbone.scheduler = ReadSchedulerConfig(scheduler);
  CheckParts(backbone);
  if (registered != nullptr) {
    CheckFacts(*registered,
               {backbone.clip.text.hidden_size, backbone.clip.text.num_hidden_layers, 0, 0, 0,
                backbone.unet_config.cross_attention_dim, backbone.scheduler.prediction_type},
               folder.string());
    WarnOfDifferences(*registered, files, folder);
  }
  // Last: it reads every byte, of hostile files as well, and says what changed meanwhile.
  backbone.digest = files.Digest();
  return backbone;
}

Backbone Place(Backbone backbone, const Compute& compute) {
  backbone.text_encoder = Place(std::move(backbone.text_encoder), compute);
  backbone.unet = Place(std::move(backbone.unet), compute);
  backbone.vae = Place(std::move(backbone.vae), compute);
  return backbone;
}

ClipModel LoadClipModel(const fs::path& folder) {
  fs::path tokenizer = folder;
  for (const fs::path& candidate : {folder, folder / "tokenizer", folder / ".." / "tokenizer"}) {
    if (!HoldsTokenizer(candidate)) continue;
    tokenizer = candidate;
    break;
  }
  SnapshotFiles files(folder);
  files.NeedTokenizer(tokenizer, "tokenizer/");
  files.Need(folder, "", "config.json");
  files.NeedWeights(folder, "", kTransformersStem);
  const RegisteredModel* registered = FindRegisteredModel(NameOf(folder));
  files.Check("CLIP model", registered == nullptr ? "" : DescribeModel(*registered));
  if (registered != nullptr) WarnOfDifferences(*registered, files, folder);

  ClipModel model;
  model.folder = folder;
  model.tokenizer = Tokenizer::Load(tokenizer);
  LoadTextEncoder(folder, &model.config, &model.weights);
  for (const char* name : {"text_projection.weight", "visual_projection.weight", "logit_scale",
                           "vision_model.post_layernorm.weight"}) {
    if (model.weights.Contains(name)) continue;
    throw Error(
        fmt::format("{}: tensor '{}' is missing: a whole CLIPModel is needed here, with "
                    "text and vision parts and both projections.",
                    folder.string(), name));
  }
  if (registered != nullptr) {
    const ClipConfig& config = model.config;
    CheckFacts(*registered,
               {config.text.hidden_size, config.text.num_hidden_layers, config.vision.hidden_size,
                config.vision.num_hidden_layers, config.vision.patch_size, 0, ""},
               folder.string());
  }
  if (model.tokenizer->vocab_size() > model.config.text.vocab_size) {
    throw Error(fmt::format("{}: the tokenizer has {} tokens, the text encoder {}.",
                            folder.string(), model.tokenizer->vocab_size(),
                            model.config.text.vocab_size));
  }
  model.digest = files.Digest();
  return model;
}

}  // namespace excise
