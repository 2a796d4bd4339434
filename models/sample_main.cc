// Text to image from any snapshot of Stable Diffusion's shape.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <string>

#include "core/error.h"
#include "core/program.h"
#include "core/progress.h"
#include "core/registry.h"
#include "core/text.h"
#include "models/pictures/image_io.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/autograd.h"
#include "models/tensors/compute.h"
#include "models/tensors/noise.h"
#include "models/tensors/safetensors.h"
#include "models/tensors/threads.h"

namespace excise {
namespace {

struct Options {
  std::string model, prompt, negative_prompt, scheduler, latents, out, noise = "philox";
  int64_t steps = 20, height = 0, width = 0;
  double guidance = 3.0, eta = 0;
  uint64_t seed = 0;
  std::string device = "cpu", dtype = "fp32";
  int threads = 0;
};

// Moves the progress bar after every sampler step and leaves when the user asks to.
class ProgressHooks : public Hooks {
 public:
  std::unique_ptr<HookRun> Start(const GuidanceBatch& batch) const override {
    return std::make_unique<Run>(batch.num_steps);
  }

 private:
  class Run : public HookRun {
   public:
    explicit Run(int64_t steps) : progress_("sample", steps) {}
    at::Tensor Mix(int64_t /*step*/, at::Tensor latents) override {
      if (InterruptRequested()) throw Interrupted{};
      progress_.Advance();
      return latents;
    }

   private:
    Progress progress_;
  };
};

void CheckOptions(const Options& options) {
  if (!EndsWith(options.out, ".png") && !EndsWith(options.out, ".safetensors")) {
    throw UsageError(
        fmt::format("--out={}: the name must end in .png or .safetensors.", options.out));
  }
  if (!options.scheduler.empty()) CheckedSchedulerName(options.scheduler);
  if (options.noise != "philox" && options.noise != "torch_cpu") {
    ThrowUnknownName("noise", options.noise, {"philox", "torch_cpu"});
  }
  if (!(options.eta >= 0 && options.eta <= 1)) {
    throw UsageError(fmt::format("--eta={}: a number in [0, 1] is expected.", options.eta));
  }
  if (options.steps < 1) {
    throw UsageError(fmt::format("--steps={}: at least 1 is needed.", options.steps));
  }
  if (!std::isfinite(options.guidance) || options.guidance < 1) {
    throw UsageError(fmt::format("--guidance={}: a number of at least 1, where 1 means none.",
                                 options.guidance));
  }
  if (options.height < 0 || options.width < 0) {
    throw UsageError("--height and --width must be positive.");
  }
}

// Pixels a side for one latent.
int64_t Factor(const Backbone& backbone) {
  return int64_t{1} << (backbone.vae_config.block_out_channels.size() - 1);
}

// What --latents gives in the place of drawn noise.
struct GivenNoise {
  at::Tensor latents;     // (1, channels, h, w)
  at::Tensor step_noise;  // (steps, 1, channels, h, w), or undefined
};

GivenNoise ReadGivenNoise(const Options& options, const Backbone& backbone, bool stochastic) {
  const std::filesystem::path path = UserPath(options.latents);
  const StateDict file = LoadSafetensors(path);
  const at::Tensor latents = file.Get("latents");
  const int64_t channels = backbone.unet_config.in_channels, factor = Factor(backbone);
  if (latents.dim() != 4 || latents.size(0) != 1 || latents.size(1) != channels ||
      latents.numel() == 0 || !latents.is_floating_point()) {
    throw Error(
        fmt::format("{}: the tensor 'latents' must be floating point of shape (1, {}, "
                    "height/{}, width/{}).",
                    path.string(), channels, factor, factor));
  }
  const int64_t height = latents.size(2) * factor, width = latents.size(3) * factor;
  if ((options.height != 0 && options.height != height) ||
      (options.width != 0 && options.width != width)) {
    throw UsageError(
        fmt::format("--height and --width contradict {}, whose latents make a picture "
                    "of {} x {} (height x width). Leave the flags out.",
                    path.string(), height, width));
  }
  GivenNoise given{latents.to(at::kFloat), {}};
  if (!file.Contains("step_noise")) return given;
  const at::Tensor noise = file.Get("step_noise");
  if (!stochastic) {
    LogWarning(
        fmt::format("{}: the tensor 'step_noise' is not used, because this scheduler adds "
                    "no noise.",
                    path.string()));
  } else if (noise.dim() != 5 || noise.size(0) != options.steps ||
             noise[0].sizes() != latents.sizes() || !noise.is_floating_point()) {
    throw Error(
        fmt::format("{}: the tensor 'step_noise' must be floating point of shape "
                    "({}, {}), one row for each of --steps={}.",
                    path.string(), options.steps, fmt::join(latents.sizes(), ", "), options.steps));
  } else {
    given.step_noise = noise.to(at::kFloat);
  }
  return given;
}

std::vector<int64_t> LatentShape(const Options& options, const Backbone& backbone) {
  const int64_t factor = Factor(backbone), own = backbone.unet_config.sample_size * factor;
  const int64_t height = options.height == 0 ? own : options.height;
  const int64_t width = options.width == 0 ? own : options.width;
  if (height % factor != 0 || width % factor != 0) {
    throw UsageError(
        fmt::format("--height={} --width={}: both must be multiples of {} for this "
                    "model.",
                    height, width, factor));
  }
  return {1, backbone.unet_config.in_channels, height / factor, width / factor};
}

// The latents to begin with, and in `spec` what stochastic samplers add.
at::Tensor MakeNoise(const Options& options, const Backbone& backbone, SamplerSpec* spec) {
  const bool stochastic =
      IsStochastic(WithScheduler(backbone.scheduler, options.scheduler), options.eta);
  GivenNoise given;
  if (!options.latents.empty()) given = ReadGivenNoise(options, backbone, stochastic);
  const std::vector<int64_t> shape =
      given.latents.defined() ? given.latents.sizes().vec() : LatentShape(options, backbone);
  // Keyed by the seed alone, so that two prompts with one seed can be compared.
  at::Tensor latents = given.latents;
  if (options.noise == "torch_cpu") {
    // One generator for everything, in the order in which diffusers draws.
    const auto draw = TorchCpuNoise(options.seed);
    if (!latents.defined()) latents = draw(shape);
    spec->noise = [draw](size_t, const at::Tensor& like) { return draw(like.sizes()); };
  } else {
    if (!latents.defined()) latents = LatentNoise(options.seed, "sample", 0, shape);
    spec->noise = [seed = options.seed](size_t step, const at::Tensor& like) {
      return SamplerNoise(seed, "sample", 0, step, like.sizes());
    };
  }
  if (given.step_noise.defined()) {
    spec->noise = [noise = given.step_noise](size_t step, const at::Tensor&) {
      return noise[static_cast<int64_t>(step)];
    };
  }
  return latents;
}

at::Tensor Encode(const Backbone& backbone, const Hooks& hooks, const std::string& flag,
                  const std::string& text) {
  const int64_t length =
      std::min(backbone.tokenizer->model_max_length(), backbone.clip.text.max_position_embeddings);
  bool truncated = false;
  backbone.tokenizer->EncodePadded(text, length, &truncated);
  if (truncated) {
    LogWarning(
        fmt::format("--{} has more than the {} tokens that the text encoder reads; its end "
                    "is ignored.",
                    flag, length - 2));
  }
  return EncodeText(backbone, TokenizeBatch(*backbone.tokenizer, {text}, length), &hooks);
}

void Run(const Options& options) {
  CheckOptions(options);
  const Compute compute = ParseCompute(options.device, options.dtype);
  UseThreads(options.threads);
  InstallInterruptHandlers();
  const NoGrad no_grad;
  const Backbone backbone = LoadBackbone(UserPath(options.model), compute);
  SamplerSpec spec;
  spec.scheduler = options.scheduler;
  spec.steps = options.steps;
  spec.guidance_scale = options.guidance;
  spec.eta = options.eta;
  const at::Tensor latents = MakeNoise(options, backbone, &spec);
  const ProgressHooks hooks;
  const at::Tensor sampled = SampleLatents(
      backbone, &hooks, Encode(backbone, hooks, "prompt", options.prompt),
      Encode(backbone, hooks, "negative_prompt", options.negative_prompt), latents, spec);
  const at::Tensor image = DecodeImages(backbone, sampled);
  const std::filesystem::path out = UserPath(options.out);
  if (EndsWith(options.out, ".png")) {
    WritePng(out, ToUint8(image)[0]);
  } else {
    StateDict tensors;
    tensors.Set("image", image.contiguous());
    SaveSafetensors(out, tensors);
  }
  LogInfo(fmt::format("wrote {}", out.string()));
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  excise::Options options;
  CLI::App app("Draws one picture from a text with a snapshot of Stable Diffusion's shape.");
  app.add_option("--model", options.model,
                 "Hugging Face folder with tokenizer/, text_encoder/, unet/, vae/ and scheduler/")
      ->required();
  app.add_option("--prompt", options.prompt, "what the picture shows")->required();
  app.add_option("--negative_prompt", options.negative_prompt, "what it must not show");
  app.add_option("--steps", options.steps, "sampler steps")->capture_default_str();
  app.add_option("--guidance", options.guidance, "classifier-free guidance; 1 = none")
      ->capture_default_str();
  app.add_option(
      "--scheduler", options.scheduler,
      fmt::format("{} (default: the snapshot's own), set up as diffusers' from_config does",
                  fmt::join(excise::SchedulerNames(), ", ")));
  app.add_option("--eta", options.eta, "noise that ddim adds: 0 = none, 1 = as much as ddpm")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "of the noise")->capture_default_str();
  app.add_option("--noise", options.noise,
                 "philox, or torch_cpu: what torch.Generator('cpu').manual_seed(SEED) draws")
      ->capture_default_str();
  app.add_option(
      "--latents", options.latents,
      "safetensors file: the tensor 'latents' (1, 4, h, w) replaces the initial noise, and "
      "'step_noise' (steps, 1, 4, h, w), if there, what stochastic schedulers add");
  app.add_option("--height", options.height, "pixels (default: the model's own)");
  app.add_option("--width", options.width, "pixels (default: the model's own)");
  app.add_option("--out", options.out,
                 "a.png, or a.safetensors: the tensor 'image' (1, 3, height, width) in [0,1]")
      ->required();
  app.add_option("--device", options.device, "cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--dtype", options.dtype, "of the models: fp32, bf16, or fp16 on CUDA")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "0 = all cores")->capture_default_str();
  return excise::RunProgram(app, argc, argv, [&] { excise::Run(options); });
}
