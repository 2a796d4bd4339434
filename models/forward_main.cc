// One forward pass of one module, tensors in and out as safetensors.
#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/program.h"
#include "core/progress.h"
#include "core/registry.h"
#include "core/text.h"
#include "models/snapshots/backbone.h"
#include "models/snapshots/snapshot.h"
#include "models/tensors/autograd.h"
#include "models/tensors/compute.h"
#include "models/tensors/safetensors.h"
#include "models/tensors/threads.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, module, in, out, device = "cpu", dtype = "fp32";
  int threads = 0;
  bool time = false;
};

// Tensors of the input file, checked as they are asked for.
class Inputs {
 public:
  explicit Inputs(fs::path path) : path_(std::move(path)), tensors_(LoadSafetensors(path_)) {}

  bool Has(const std::string& name) const { return tensors_.Contains(name); }

  // `sizes`: -1 stands for any size of at least 1.
  at::Tensor Get(const std::string& name, std::vector<int64_t> sizes, bool integer) const {
    if (!Has(name)) {
      std::vector<std::string> names;
      for (const auto& entry : tensors_) names.push_back(entry.first);
      throw Error(fmt::format("{}: this module needs the tensor '{}'; the file has: {}.",
                              path_.string(), name, fmt::join(names, ", ")));
    }
    const at::Tensor& tensor = tensors_.Get(name);
    bool fits = tensor.dim() == static_cast<int64_t>(sizes.size()) &&
                integer == !tensor.is_floating_point();
    for (size_t i = 0; fits && i < sizes.size(); ++i) {
      const int64_t size = tensor.size(static_cast<int64_t>(i));
      fits = size >= 1 && (sizes[i] < 0 || size == sizes[i]);
    }
    if (!fits) Refuse(name, sizes, integer);
    return tensor.to(integer ? at::kLong : at::kFloat);
  }

  // The U-Net's timestep: a scalar, one, or one a sample; any number type.
  at::Tensor Timestep(int64_t batch) const {
    if (!Has("timestep")) Get("timestep", {-1}, true);  // throws
    const at::Tensor& tensor = tensors_.Get("timestep");
    if (tensor.dim() > 1 || (tensor.numel() != 1 && tensor.numel() != batch)) {
      Refuse("timestep", {batch}, true);
    }
    return tensor.numel() == 1 ? tensor.reshape({}) : tensor;
  }

  at::Tensor Ids(const ClipTextConfig& config) const {
    const at::Tensor ids = Get("input_ids", {-1, -1}, true);
    if (ids.size(1) > config.max_position_embeddings) {
      throw Error(fmt::format("{}: 'input_ids' has {} tokens a row; the text encoder reads {}.",
                              path_.string(), ids.size(1), config.max_position_embeddings));
    }
    const int64_t low = ids.min().item<int64_t>(), high = ids.max().item<int64_t>();
    if (low < 0 || high >= config.vocab_size) {
      throw Error(fmt::format("{}: 'input_ids' holds {}, outside the vocabulary of {} tokens.",
                              path_.string(), low < 0 ? low : high, config.vocab_size));
    }
    return ids;
  }

  at::Tensor Mask(const at::Tensor& ids) const {
    if (!Has("attention_mask")) return {};
    return Get("attention_mask", {ids.size(0), ids.size(1)}, true);
  }

  // A misspelt optional tensor must not pass unseen.
  void WarnUnused(const std::vector<std::string>& known) const {
    for (const auto& [name, tensor] : tensors_) {
      if (IsOneOf(name, known)) continue;
      LogWarning(fmt::format("{}: the tensor '{}' is not used by this module.{}", path_.string(),
                             name, DidYouMean(name, known)));
    }
  }

 private:
  [[noreturn]] void Refuse(const std::string& name, const std::vector<int64_t>& sizes,
                           bool integer) const {
    std::vector<std::string> words;
    for (const int64_t size : sizes) words.push_back(size < 0 ? "any" : std::to_string(size));
    const at::Tensor& tensor = tensors_.Get(name);
    throw Error(fmt::format("{}: the tensor '{}' must be {} of shape ({}); it is {} of shape ({}).",
                            path_.string(), name, integer ? "integer" : "floating point",
                            fmt::join(words, ", "), c10::toString(tensor.scalar_type()),
                            fmt::join(tensor.sizes(), ", ")));
  }

  fs::path path_;
  StateDict tensors_;
};

// The folder of one model: `model` itself, or its part where it is a pipeline.
fs::path PartFolder(const fs::path& model, const std::string& part) {
  if (!fs::is_directory(model)) {
    throw Error(fmt::format("{}: no such folder. --model names a Hugging Face snapshot folder.",
                            model.string()));
  }
  if (fs::exists(model / "config.json")) return model;
  if (fs::exists(model / part / "config.json")) return model / part;
  throw Error(
      fmt::format("{}: neither config.json nor {}/config.json is here. Is this a snapshot "
                  "folder with that module?",
                  model.string(), part));
}

at::Tensor Normalized(const at::Tensor& rows) {
  return rows / at::linalg_vector_norm(rows, 2, {-1}, true);
}

// One module with its weights: from checked inputs to named outputs.
using Forward = std::function<StateDict(const Inputs&)>;

Forward TextEncoder(const fs::path& model, const Compute& compute) {
  ClipConfig config;
  StateDict weights;
  LoadTextEncoder(PartFolder(model, "text_encoder"), &config, &weights, compute, IsOfTexts);
  return [config, weights](const Inputs& inputs) {
    StateDict out;
    const at::Tensor ids = inputs.Ids(config.text);
    const ClipTextOutput text = ClipTextForward(
        config.text, weights, ClipTokenEmbeddings(weights, ids), ids, inputs.Mask(ids));
    out.Set("last_hidden_state", text.last_hidden_state);
    out.Set("pooler_output", text.pooler_output);
    if (weights.Contains("text_projection.weight")) {
      out.Set("text_embeds", ClipTextEmbeds(weights, text.pooler_output));
    }
    return out;
  };
}

// A CLIPModel or a CLIPVisionModel (whose names transformers 5 may write without "vision_model.").
StateDict VisionWeights(const fs::path& folder, const Compute& compute) {
  const auto wanted = [](const std::string& name) {
    return !StartsWith(name, "text_model.") && name != "text_projection.weight";
  };
  StateDict weights;
  for (const auto& [name, tensor] : LoadSafetensorsFolder(folder, WeightStem(folder, "model"),
                                                          compute.dtype, INT64_MAX, wanted)) {
    const bool bare = StartsWith(name, "embeddings.") || StartsWith(name, "encoder.") ||
                      StartsWith(name, "pre_layrnorm.") || StartsWith(name, "post_layernorm.");
    weights.Set(bare ? "vision_model." + name : name, tensor);
  }
  if (!weights.Contains("vision_model.post_layernorm.weight")) {
    throw Error(
        fmt::format("{}: the weights have no vision part (vision_model.*). Give the folder "
                    "of a CLIPModel or CLIPVisionModel.",
                    folder.string()));
  }
  return Place(std::move(weights), compute);
}

Forward VisionModel(const fs::path& model, const Compute& compute) {
  const fs::path folder = PartFolder(model, "text_encoder"), file = folder / "config.json";
  const StateDict weights = VisionWeights(folder, compute);
  const ClipVisionConfig config = ParseClipConfig(ReadJsonFile(file), file.string()).vision;
  return [config, weights](const Inputs& inputs) {
    StateDict out;
    const ClipVisionOutput vision = ClipVisionForward(
        config, weights,
        inputs.Get("pixel_values", {-1, 3, config.image_size, config.image_size}, false));
    out.Set("last_hidden_state", vision.last_hidden_state);
    out.Set("pooler_output", vision.pooler_output);
    if (weights.Contains("visual_projection.weight")) {
      out.Set("image_embeds", ClipImageEmbeds(weights, vision.pooler_output));
    }
    return out;
  };
}

Forward Clip(const fs::path& model, const Compute& compute) {
  const fs::path folder = PartFolder(model, "text_encoder");
  ClipConfig config;
  StateDict weights;
  LoadTextEncoder(folder, &config, &weights, compute);
  for (const char* name : {"text_projection.weight", "visual_projection.weight", "logit_scale"}) {
    if (weights.Contains(name)) continue;
    throw Error(fmt::format("{}: '{}' is missing; the module clip needs a whole CLIPModel.",
                            folder.string(), name));
  }
  return [config, weights](const Inputs& inputs) {
    const at::Tensor ids = inputs.Ids(config.text);
    const int64_t size = config.vision.image_size;
    const at::Tensor pixels = inputs.Get("pixel_values", {-1, 3, size, size}, false);
    const ClipTextOutput text = ClipTextForward(
        config.text, weights, ClipTokenEmbeddings(weights, ids), ids, inputs.Mask(ids));
    const ClipVisionOutput vision = ClipVisionForward(config.vision, weights, pixels);
    const at::Tensor text_embeds = Normalized(ClipTextEmbeds(weights, text.pooler_output));
    const at::Tensor image_embeds = Normalized(ClipImageEmbeds(weights, vision.pooler_output));
    StateDict out;
    out.Set("text_embeds", text_embeds);
    out.Set("image_embeds", image_embeds);
    out.Set("logits_per_image",
            at::matmul(image_embeds, text_embeds.t()) * weights.Get("logit_scale").exp());
    return out;
  };
}

Forward UNet(const fs::path& model, const Compute& compute) {
  UNetConfig config;
  StateDict weights;
  LoadUNet(PartFolder(model, "unet"), &config, &weights, compute);
  return [config, weights](const Inputs& inputs) {
    StateDict out;
    const at::Tensor sample = inputs.Get("sample", {-1, config.in_channels, -1, -1}, false);
    const at::Tensor states = inputs.Get("encoder_hidden_states",
                                         {sample.size(0), -1, config.cross_attention_dim}, false);
    out.Set("sample",
            UNetForward(config, weights, sample, inputs.Timestep(sample.size(0)), states));
    return out;
  };
}

Forward VaeEncoder(const fs::path& model, const Compute& compute) {
  VaeConfig config;
  StateDict weights;
  LoadVae(PartFolder(model, "vae"), &config, &weights, compute);
  return [config, weights](const Inputs& inputs) {
    StateDict out;
    const at::Tensor images = inputs.Get("sample", {-1, config.in_channels, -1, -1}, false);
    const VaeMoments moments = VaeEncode(config, weights, images);
    out.Set("latent_dist.mean", moments.mean);
    out.Set("latent_dist.logvar", moments.logvar);
    return out;
  };
}

Forward VaeDecoder(const fs::path& model, const Compute& compute) {
  VaeConfig config;
  StateDict weights;
  LoadVae(PartFolder(model, "vae"), &config, &weights, compute);
  return [config, weights](const Inputs& inputs) {
    StateDict out;
    const at::Tensor latents = inputs.Get("sample", {-1, config.latent_channels, -1, -1}, false);
    out.Set("sample", VaeDecode(config, weights, latents));
    return out;
  };
}

struct Module {
  std::string name;
  std::vector<std::string> inputs;
  Forward (*load)(const fs::path&, const Compute&);
};

const std::vector<Module>& Modules() {
  static const auto* const modules = new std::vector<Module>{
      {"text_encoder", {"input_ids", "attention_mask"}, TextEncoder},
      {"vision_model", {"pixel_values"}, VisionModel},
      {"clip", {"input_ids", "attention_mask", "pixel_values"}, Clip},
      {"unet", {"sample", "timestep", "encoder_hidden_states"}, UNet},
      {"vae_encoder", {"sample"}, VaeEncoder},
      {"vae_decoder", {"sample"}, VaeDecoder},
  };
  return *modules;
}

const Module& FindModule(const std::string& name) {
  std::vector<std::string> names;
  for (const Module& module : Modules()) {
    if (module.name == name) return module;
    names.push_back(module.name);
  }
  ThrowUnknownName("module", name, names);
}

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One run for every line of stdin, its seconds on stdout: another program can alternate with this
// one and compare. Nothing of a run is kept.
void RunOnDemand(const Forward& forward, const Inputs& inputs) {
  for (std::string line; std::getline(std::cin, line);) {
    const Clock::time_point start = Clock::now();
    for (const auto& [name, tensor] : forward(inputs)) tensor.cpu();
    fmt::print("{:.6f}\n", SecondsSince(start));
    std::fflush(stdout);
  }
}

void Run(const Options& options) {
  const Module& module = FindModule(options.module);
  const Compute compute = ParseCompute(options.device, options.dtype);
  UseThreads(options.threads);
  const NoGrad no_grad;
  const Inputs inputs(UserPath(options.in));
  inputs.WarnUnused(module.inputs);
  const Clock::time_point start = Clock::now();
  const Forward forward = module.load(UserPath(options.model), compute);
  if (options.time) {
    fmt::print("{:.6f}\n", SecondsSince(start));
    std::fflush(stdout);
    RunOnDemand(forward, inputs);
  }
  StateDict out;
  for (const auto& [name, tensor] : forward(inputs)) {
    out.Set(name, tensor.to(at::kCPU, at::kFloat).contiguous());
  }
  SaveSafetensors(UserPath(options.out), out);
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::Options options;
  CLI::App app(
      "Runs one module once. Tensors carry the names of transformers and diffusers.\n"
      "  text_encoder  input_ids, attention_mask? -> last_hidden_state, pooler_output,\n"
      "                text_embeds (with a projection; not normalised)\n"
      "  vision_model  pixel_values -> last_hidden_state, pooler_output, image_embeds (likewise)\n"
      "  clip          input_ids, attention_mask?, pixel_values -> text_embeds, image_embeds\n"
      "                (normalised), logits_per_image\n"
      "  unet          sample, timestep, encoder_hidden_states -> sample\n"
      "  vae_encoder   sample (pictures in [-1,1]) -> latent_dist.mean, latent_dist.logvar\n"
      "  vae_decoder   sample (latents / scaling_factor) -> sample");
  app.add_option("--model", options.model, "Hugging Face folder: a pipeline, or one model")
      ->required();
  app.add_option("--module", options.module, "which of the above")->required();
  app.add_option("--in", options.in, "safetensors file")->required();
  app.add_option("--out", options.out, "safetensors file")->required();
  app.add_option("--device", options.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--dtype", options.dtype,
                 "of weights and activations: fp32, bf16, or fp16 on CUDA; outputs are float32")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "0 = all cores")->capture_default_str();
  app.add_flag("--time", options.time,
               "print the seconds that loading took, then run once for every line of stdin and "
               "print its seconds");
  return excise::RunProgram(app, argc, argv, [&] { excise::Run(options); });
}
