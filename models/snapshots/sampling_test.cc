// The computing half of backbone.h (models/snapshots/sampling.cc).
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"

namespace excise {
namespace {

UNetConfig TinyUNet() {
  UNetConfig config;
  config.block_out_channels = {8, 8};
  config.down_block_types = {"CrossAttnDownBlock2D", "DownBlock2D"};
  config.up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D"};
  config.layers_per_block = 1;
  config.cross_attention_dim = 8;
  config.norm_num_groups = 4;
  config.num_heads = {2, 2};
  return config;
}

VaeConfig TinyVae() {
  VaeConfig config;
  config.block_out_channels = {4, 8};
  config.layers_per_block = 1;
  config.norm_num_groups = 2;
  return config;
}

struct Scene {
  Backbone backbone;
  at::Tensor prompt = nn::InitNormal({2, 8, 8}, 1, 1, "prompt");
  at::Tensor empty = nn::InitNormal({2, 8, 8}, 1, 1, "empty");
  at::Tensor latents = nn::InitNormal({2, 4, 4, 4}, 1, 1, "latents");
  SamplerSpec spec;

  Scene() {
    backbone.unet_config = TinyUNet();
    backbone.unet = InitUNet(backbone.unet_config, 1);
    backbone.vae_config = TinyVae();
    backbone.vae = InitVae(backbone.vae_config, 1);
    spec.steps = 4;
  }
  at::Tensor Sample(const Hooks* hooks = nullptr, int64_t* count = nullptr) const {
    return SampleLatents(backbone, hooks, prompt, empty, latents, spec, count);
  }
  at::Tensor Raw(const at::Tensor& x, double t, const at::Tensor& states) const {
    return UNetForward(backbone.unet_config, backbone.unet, x, at::tensor(t), states);
  }
};

// Wants everything, changes nothing.
class Identity : public Hooks {
 public:
  class Layers : public LayerHooks {
   public:
    bool WantsLinear(const std::string&) const override { return true; }
    bool WantsAttention(const std::string&) const override { return true; }
    bool WantsSkips() const override { return true; }
  };
  class Run : public HookRun {
   public:
    LayerHooks* Layers() override { return &layers_; }

   private:
    Identity::Layers layers_;
  };
  std::unique_ptr<HookRun> Start(const GuidanceBatch& batch) const override {
    CHECK(batch.num_steps == 4);
    return std::make_unique<Run>();
  }
};

// Three streams that are combined with weights that sum to one.
class ThreeStreams : public Hooks {
 public:
  class Run : public HookRun {
   public:
    std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t) override {
      return {batch.empty_states, batch.prompt_states, batch.empty_states};
    }
    at::Tensor Combine(const GuidanceBatch& batch, int64_t,
                       const std::vector<at::Tensor>& e) override {
      CHECK(e.size() == 3);
      CHECK(at::allclose(e[0], e[2], 1e-5, 1e-6));
      return e[2] + batch.guidance_scale * (e[1] - e[0]);
    }
  };
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<Run>();
  }
};

class ZeroLatents : public Hooks {
 public:
  class Run : public HookRun {
   public:
    at::Tensor Mix(int64_t step, at::Tensor latents) override {
      return step == 3 ? latents * 0 : latents;
    }
  };
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<Run>();
  }
};

// Two latent streams from the same noise, under two texts; the first one is delivered, `share` of
// it replaced by the second after every step.
class TwoLatents : public Hooks {
 public:
  class Run : public HookRun {
   public:
    Run(at::Tensor other, double share) : other_(std::move(other)), share_(share) {}
    at::Tensor Fork(at::Tensor latents) override { return at::cat({latents, latents}); }
    at::Tensor Join(at::Tensor latents) override { return latents.chunk(2)[0]; }
    std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t) override {
      return {at::cat({batch.empty_states, batch.empty_states}),
              at::cat({batch.prompt_states, other_})};
    }
    void Observe(const StepPoint& point, const std::vector<at::Tensor>& predictions) override {
      CHECK(point.signal * point.signal + point.noise * point.noise == Approx(1));
      CHECK(predictions.size() == 2);
      CHECK(predictions[0].sizes() == point.input.sizes());
      steps_.push_back(point.step);
    }
    at::Tensor Mix(int64_t, at::Tensor latents) override {
      const std::vector<at::Tensor> both = latents.chunk(2);
      return at::cat({(1 - share_) * both[0] + share_ * both[1], both[1]});
    }
    Signals Detected() const override {
      return {{"steps", {at::tensor(std::vector<float>(steps_.begin(), steps_.end())), 2}}};
    }

   private:
    at::Tensor other_;
    double share_;
    std::vector<int64_t> steps_;
  };
  TwoLatents(at::Tensor other, double share) : other_(std::move(other)), share_(share) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<Run>(other_, share_);
  }

 private:
  at::Tensor other_;
  double share_;
};

bool Close(const at::Tensor& a, const at::Tensor& b, double relative = 1e-5) {
  return (a - b).norm().item<double>() <= relative * b.norm().item<double>();
}

}  // namespace

TEST_CASE("latent streams are drawn side by side in one call") {
  NoGrad no_grad;
  Scene scene;
  const at::Tensor other = nn::InitNormal({2, 8, 8}, 1, 1, "other");
  const auto sample = [&](double share, int64_t* count, Signals* detected) {
    const TwoLatents hooks(other, share);
    return SampleLatents(scene.backbone, &hooks, scene.prompt, scene.empty, scene.latents,
                         scene.spec, count, detected);
  };
  for (const std::string scheduler : {"ddim", "euler_ancestral"}) {
    INFO(scheduler);
    scene.spec.scheduler = scheduler;
    // One picture's noise, whatever its stream.
    scene.spec.noise = [](size_t index, const at::Tensor& like) {
      return nn::InitNormal(like.sizes(), 1, 1, "step" + std::to_string(index));
    };
    int64_t count = 0;
    Signals detected;
    CHECK(Close(sample(0, &count, &detected), scene.Sample()));
    CHECK(count == 4 * 2 * 2 * 2);  // steps x rows x streams x images
    CHECK(at::equal(detected.at("steps").scores, at::tensor({0.f, 1.f, 2.f, 3.f})));
    // All of the second stream: what its text draws.
    const at::Tensor second =
        SampleLatents(scene.backbone, nullptr, other, scene.empty, scene.latents, scene.spec);
    CHECK(Close(sample(1, nullptr, nullptr), second));
    CHECK_FALSE(Close(sample(0.5, nullptr, nullptr), second, 1e-2));
  }
}

TEST_CASE("one step through the hooks, written out") {
  const Scene scene;
  const at::Tensor other = nn::InitNormal({2, 8, 8}, 1, 1, "other");
  const SchedulerConfig& config = scene.backbone.scheduler;
  const std::unique_ptr<Sampler> sampler = MakeSampler(config, 4);
  at::Tensor prompt = scene.prompt.clone().requires_grad_(true);
  const GuidanceBatch batch{prompt, scene.empty, 3.0, 4};
  TwoLatents::Run run(other, 0.25);
  const at::Tensor predicted =
      PredictNoise(scene.backbone, run, batch, config, *sampler, 2, scene.latents);
  const auto guided = [&](const at::Tensor& states) {
    const at::Tensor empty = scene.Raw(scene.latents, 251, scene.empty);
    return empty + 3.0 * (scene.Raw(scene.latents, 251, states) - empty);
  };
  CHECK(Close(predicted.detach(), (0.75 * guided(prompt) + 0.25 * guided(other)).detach()));
  const at::Tensor gradient = Gradients(predicted.square().sum(), {prompt})[0];
  CHECK(gradient.norm().item<double>() > 0);
  // Without guidance the prompt is asked alone.
  HookRun plain;
  const GuidanceBatch alone{scene.prompt, scene.empty, 1.0, 4};
  int64_t count = 0;
  const at::Tensor one =
      PredictNoise(scene.backbone, plain, alone, config, *sampler, 0, scene.latents, &count);
  CHECK(count == 2);
  CHECK(Close(one, scene.Raw(scene.latents, 751, scene.prompt)));
}

TEST_CASE("guided DDIM sampling, written out") {
  NoGrad no_grad;
  const Scene scene;
  const std::vector<double> alphas = AlphasCumprod(scene.backbone.scheduler);
  at::Tensor x = scene.latents;
  for (const int64_t t : {751, 501, 251, 1}) {
    const at::Tensor uncond = scene.Raw(x, t, scene.empty), cond = scene.Raw(x, t, scene.prompt);
    const at::Tensor e = uncond + 3.0 * (cond - uncond);
    const double a = alphas[static_cast<size_t>(t)];
    const double p = alphas[static_cast<size_t>(t > 250 ? t - 250 : 0)];
    x = std::sqrt(p) * (x - std::sqrt(1 - a) * e) / std::sqrt(a) + std::sqrt(1 - p) * e;
  }
  int64_t count = 5;
  CHECK(Close(scene.Sample(nullptr, &count), x));
  CHECK(count == 5 + 4 * 2 * 2);  // steps x streams x images
}

TEST_CASE("guidance scale 1 evaluates the prompt alone") {
  NoGrad no_grad;
  Scene scene;
  scene.spec.guidance_scale = 1;
  int64_t count = 0;
  const at::Tensor sampled = scene.Sample(nullptr, &count);
  CHECK(count == 4 * 2);
  scene.empty = scene.empty * 100;
  CHECK(at::equal(scene.Sample(), sampled));
}

TEST_CASE("identity hooks give the same bits; other hooks do what they say") {
  NoGrad no_grad;
  const Scene scene;
  const Identity identity;
  const at::Tensor plain = scene.Sample();
  CHECK(at::equal(scene.Sample(&identity), plain));
  const ThreeStreams three;
  int64_t count = 0;
  CHECK(Close(scene.Sample(&three, &count), plain));
  CHECK(count == 4 * 3 * 2);
  const ZeroLatents zero;
  CHECK(at::equal(scene.Sample(&zero), at::zeros({2, 4, 4, 4})));
}

TEST_CASE("guidance on epsilon is guidance on what the model returns") {
  NoGrad no_grad;
  // As diffusers' pipeline: one combination of raw outputs, for every prediction type and sampler,
  // where zero terminal SNR leaves no epsilon to speak of as well.
  for (const std::string& name : SchedulerNames()) {
    for (const bool zero_snr : {false, true}) {
      Scene scene;
      SchedulerConfig& config = scene.backbone.scheduler;
      config.name = name;
      config.prediction_type = "v_prediction";
      config.timestep_spacing = "trailing";
      config.rescale_betas_zero_snr = zero_snr && name != "pndm" && name != "lms";
      scene.spec.noise = [](size_t index, const at::Tensor& like) {
        return nn::InitNormal(like.sizes(), 1, 2, "noise" + std::to_string(index));
      };
      const auto sampler = MakeSampler(config, 4, {0, scene.spec.noise});
      at::Tensor x = scene.latents * sampler->init_noise_sigma();
      for (size_t i = 0; i < sampler->timesteps().size(); ++i) {
        const double t = sampler->timesteps()[i];
        const at::Tensor seen = sampler->ScaleInput(x, i);
        const at::Tensor uncond = scene.Raw(seen, t, scene.empty);
        const at::Tensor cond = scene.Raw(seen, t, scene.prompt);
        x = sampler->Step(uncond + 3.0 * (cond - uncond), i, x);
      }
      CAPTURE(name, zero_snr);
      CHECK(at::isfinite(x).all().item<bool>());
      CHECK(Close(scene.Sample(), x, 2e-5));
    }
  }
}

TEST_CASE("stochastic samplers take their noise from the caller, or say that there is none") {
  NoGrad no_grad;
  const auto noise_of = [](const std::vector<std::string>& roots) {
    return [roots](size_t step, const at::Tensor& like) {
      std::vector<at::Tensor> drawn;
      for (const std::string& root : roots) {
        drawn.push_back(SamplerNoise(1, root, 0, step, like[0].sizes()));
      }
      return at::stack(drawn);
    };
  };
  for (const std::string name : {"ddpm", "euler_ancestral", "ddim"}) {
    Scene scene;
    scene.spec.scheduler = name;
    if (name == "ddim") scene.spec.eta = 0.7;
    CAPTURE(name);
    CHECK_THROWS_WITH(scene.Sample(), Catch::Contains("adds noise"));
    scene.spec.noise = noise_of({"one", "two"});
    const at::Tensor both = scene.Sample();
    CHECK(at::equal(scene.Sample(), both));
    // Alone, a picture gets the same noise as in company; another root gets another.
    const auto alone = [&](const std::string& root) {
      scene.spec.noise = noise_of({root});
      return SampleLatents(scene.backbone, nullptr, scene.prompt.narrow(0, 1, 1),
                           scene.empty.narrow(0, 1, 1), scene.latents.narrow(0, 1, 1), scene.spec);
    };
    CHECK(Close(alone("two"), both.narrow(0, 1, 1), 1e-4));
    CHECK_FALSE(Close(alone("one"), both.narrow(0, 1, 1), 1e-2));
    CHECK_THROWS_WITH(scene.Sample(), Catch::Contains("[1, 4, 4, 4]"));
  }
}

TEST_CASE("torch_cpu noise is torch's, from a generator of its own") {
  const at::Tensor global_state = at::detail::getDefaultCPUGenerator().get_state();
  // torch.randn(1, 4, 64, 64, generator=torch.Generator("cpu").manual_seed(...)) in PyTorch 2.11.
  const at::Tensor noise = TorchCpuNoise(42)({1, 4, 64, 64}).flatten();
  const at::Tensor begin = at::tensor({1.9269F, 1.4873F, 0.9007F, -2.1055F});
  CHECK(at::allclose(noise.narrow(0, 0, 4), begin, 0, 6e-5));
  const at::Tensor zero = TorchCpuNoise(0)({1, 4, 64, 64}).flatten();
  CHECK(at::allclose(zero.narrow(0, 0, 2), at::tensor({-1.1258F, -1.1524F}), 0, 6e-5));
  CHECK(
      at::allclose(zero.narrow(0, zero.size(0) - 2, 2), at::tensor({-1.3665F, -1.0782F}), 0, 6e-5));
  CHECK(at::allclose(TorchCpuNoise(0)({4}), at::tensor({1.5410F, -0.2934F, -2.1788F, 0.5684F}), 0,
                     6e-5));
  // Draws follow each other, also through copies.
  const auto draw = TorchCpuNoise(3);
  const auto copy = draw;
  const at::Tensor first = draw({16}), second = copy({16});
  CHECK_FALSE(at::equal(first, second));
  CHECK(at::equal(TorchCpuNoise(3)({16}), first));
  CHECK(at::equal(at::detail::getDefaultCPUGenerator().get_state(), global_state));
}

TEST_CASE("a picture does not depend on its batch") {
  NoGrad no_grad;
  Scene scene;
  const at::Tensor both = scene.Sample();
  for (int64_t i = 0; i < 2; ++i) {
    const at::Tensor one =
        SampleLatents(scene.backbone, nullptr, scene.prompt.narrow(0, i, 1),
                      scene.empty.narrow(0, i, 1), scene.latents.narrow(0, i, 1), scene.spec);
    CHECK(Close(one, both.narrow(0, i, 1), 1e-4));
  }
  CHECK_THROWS_WITH(SampleLatents(scene.backbone, nullptr, scene.prompt.narrow(0, 0, 1),
                                  scene.empty, scene.latents, scene.spec),
                    Catch::Contains("[1, 8, 8]"));
}

TEST_CASE("sampling and decoding are differentiable in the text states") {
  Scene scene;
  for (StateDict* weights : {&scene.backbone.unet, &scene.backbone.vae}) {
    StateDict wide;
    for (const auto& [name, tensor] : *weights) wide.Set(name, tensor.to(at::kDouble));
    *weights = wide;
  }
  scene.spec.steps = 2;
  scene.empty = scene.empty.to(at::kDouble);
  scene.latents = scene.latents.to(at::kDouble);
  const auto loss = [&](const at::Tensor& states) {
    scene.prompt = states;
    return DecodeImages(scene.backbone, scene.Sample()).square().mean();
  };
  const at::Tensor states = scene.prompt.to(at::kDouble).requires_grad_(true);
  const at::Tensor gradient = Gradients(loss(states), {states}).at(0);
  NoGrad no_grad;
  const at::Tensor direction = nn::InitNormal({2, 8, 8}, 1, 1, "direction").to(at::kDouble);
  const double h = 1e-6;
  const double difference =
      (loss(states + h * direction) - loss(states - h * direction)).item<double>() / (2 * h);
  CHECK(std::abs(difference) > 1e-9);
  CHECK((gradient * direction).sum().item<double>() == Approx(difference).epsilon(1e-4));
}

TEST_CASE("finite weights that overflow are an error of a step, never a black picture") {
  const auto enlarge = [](StateDict* weights, const std::string& name) {
    weights->Set(name, at::full_like(weights->Get(name), 3e38));
  };
  Scene scene;
  const at::Tensor latents = scene.Sample();
  enlarge(&scene.backbone.vae, "decoder.conv_out.weight");
  CHECK_THROWS_WITH(DecodeImages(scene.backbone, latents), Catch::Contains("the decoded picture"));
  enlarge(&scene.backbone.unet, "conv_out.weight");
  CHECK_THROWS_WITH(scene.Sample(), Catch::Contains("prediction of step 1 of 4"));
  // A sampler that clips would make numbers of what is infinite.
  scene.backbone.scheduler.clip_sample = true;
  CHECK_THROWS_WITH(scene.Sample(), Catch::Contains("prediction of step 1 of 4"));
  scene.prompt = at::full_like(scene.prompt, std::numeric_limits<float>::infinity());
  CHECK_THROWS_WITH(scene.Sample(), Catch::Contains("the text encoder's states"));
}

TEST_CASE("uint8 rounds half to even") {
  int64_t exact = 0;
  for (int k = 0; k < 255; ++k) {
    const float value = (static_cast<float>(k) + 0.5F) / 255.0F;
    if (value * 255.0F != static_cast<float>(k) + 0.5F) continue;  // no tie in float32
    ++exact;
    const int expected = k % 2 == 0 ? k : k + 1;
    CHECK(ToUint8(at::tensor(value)).item<int>() == expected);
  }
  CHECK(exact > 100);
  const at::Tensor edges = ToUint8(at::tensor({0.0F, 1.0F, 0.9981F}));
  CHECK(edges.scalar_type() == at::kByte);
  CHECK(at::equal(edges, at::tensor({0, 255, 255}).to(at::kByte)));
}

TEST_CASE("latent noise is a function of seed, root prompt and replicate") {
  const at::Tensor noise = LatentNoise(1, "set@12345678/0", 0, {4, 8, 8});
  CHECK(noise.scalar_type() == at::kFloat);
  CHECK(at::equal(noise, LatentNoise(1, "set@12345678/0", 0, {4, 8, 8})));
  CHECK(at::equal(noise.unsqueeze(0), LatentNoise(1, "set@12345678/0", 0, {1, 4, 8, 8})));
  CHECK_FALSE(at::equal(noise, LatentNoise(2, "set@12345678/0", 0, {4, 8, 8})));
  CHECK_FALSE(at::equal(noise, LatentNoise(1, "set@12345678/1", 0, {4, 8, 8})));
  CHECK_FALSE(at::equal(noise, LatentNoise(1, "set@12345678/0", 1, {4, 8, 8})));
  // The stream of the other purposes differs.
  std::vector<float> init(4);
  Philox(StreamKey{1, "set@12345678/0", 0, Stream::kInit, 0}).FillNormal(init.data(), 4);
  CHECK(noise.flatten()[0].item<float>() != init[0]);
  // 256 draws: mean within 4 standard errors of 0, variance within 4 of 1.
  CHECK(std::abs(noise.mean().item<double>()) < 4.0 / 16);
  CHECK(std::abs(noise.var().item<double>() - 1) < 4 * std::sqrt(2.0 / 256));
}

}  // namespace excise
