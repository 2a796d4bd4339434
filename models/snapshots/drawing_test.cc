// What a spec asks of sampling beyond plain drawing, by hand on a model that predicts a constant:
// noise after every step, and a start at a later one.
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <array>
#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

constexpr std::array<int, 4> kTimesteps = {751, 501, 251, 1};  // four of a thousand, leading

// Stable Diffusion's schedule: the square roots of beta are evenly spaced.
double Abar(int t) {
  double product = 1;
  for (int i = 0; i <= t; ++i) {
    const double root = std::sqrt(0.00085) + (std::sqrt(0.012) - std::sqrt(0.00085)) * i / 999;
    product *= 1 - root * root;
  }
  return product;
}

at::Tensor Draws(const std::string& name) { return nn::InitNormal({2, 4, 4, 4}, 1, 1, name); }
at::Tensor NoiseAfter(size_t step) { return Draws("noise" + std::to_string(step)); }

struct Scene {
  Backbone backbone;
  at::Tensor states = nn::InitNormal({2, 8, 8}, 1, 1, "prompt");
  // What the model predicts, whatever it sees.
  at::Tensor epsilon = at::tensor({0.3f, -0.2f, 0.1f, 0.5f}).view({1, 4, 1, 1});
  SamplerSpec spec;

  Scene() {
    UNetConfig& config = backbone.unet_config;
    config.block_out_channels = {8, 8};
    config.down_block_types = {"CrossAttnDownBlock2D", "DownBlock2D"};
    config.up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D"};
    config.layers_per_block = 1;
    config.cross_attention_dim = 8;
    config.norm_num_groups = 4;
    config.num_heads = {2, 2};
    backbone.unet = InitUNet(config, 1);
    backbone.unet.Set("conv_out.weight", at::zeros_like(backbone.unet.Get("conv_out.weight")));
    backbone.unet.Set("conv_out.bias", epsilon.flatten());
    backbone.scheduler.set_alpha_to_one = true;
    spec.scheduler = "ddim";
    spec.steps = 4;
    spec.extra_noise = [](size_t step, const at::Tensor&) { return NoiseAfter(step); };
  }
  at::Tensor Sample(const at::Tensor& latents, int64_t* evaluations = nullptr) const {
    const NoGrad no_grad;
    return SampleLatents(backbone, nullptr, states, states, latents, spec, evaluations);
  }
  // DDIM written out from step `first`, with `scale` times DDPM's deviation added.
  at::Tensor ByHand(at::Tensor x, size_t first, double scale) const {
    for (size_t i = first; i < kTimesteps.size(); ++i) {
      const double a = Abar(kTimesteps[i]);
      const double next = i + 1 < kTimesteps.size() ? Abar(kTimesteps[i + 1]) : 1;
      const at::Tensor x0 = (x - std::sqrt(1 - a) * epsilon) / std::sqrt(a);
      x = std::sqrt(next) * x0 + std::sqrt(1 - next) * epsilon;
      if (i + 1 == kTimesteps.size()) break;
      x = x + scale * std::sqrt((1 - next) / (1 - a) * (1 - a / next)) * NoiseAfter(i);
    }
    return x;
  }
};

bool Close(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).norm().item<double>() <= 2e-5 * b.norm().item<double>();
}

}  // namespace

TEST_CASE("noise after every step but the last is DDPM's times the scale") {
  Scene scene;
  const at::Tensor latents = Draws("latents");
  const at::Tensor plain = scene.Sample(latents);
  CHECK(Close(plain, scene.ByHand(latents, 0, 0)));
  for (const double scale : {0.5, 1.0, 1.85}) {
    INFO(scale);
    scene.spec.noise_scale = scale;
    const at::Tensor drawn = scene.Sample(latents);
    CHECK(Close(drawn, scene.ByHand(latents, 0, scale)));
    CHECK_FALSE(Close(drawn, plain));
  }
  // Euler's latents are of another scale; the picture is the same.
  scene.spec.scheduler = "euler";
  CHECK(Close(scene.Sample(latents), scene.ByHand(latents, 0, 1.85)));
  // As much as DDIM adds with eta = 1, of the step's own formula.
  for (size_t i = 0; i + 1 < kTimesteps.size(); ++i) {
    const double a = Abar(kTimesteps[i]), next = Abar(kTimesteps[i + 1]);
    CHECK(AncestralDeviation({std::sqrt(a), std::sqrt(1 - a)},
                             {std::sqrt(next), std::sqrt(1 - next)}) ==
          Approx(std::sqrt((1 - next) / (1 - a)) * std::sqrt(1 - a / next)));
  }
}

TEST_CASE("a later start: the picture is noised to that step's level, and drawn from there") {
  const at::Tensor picture = Draws("picture"), noise = Draws("start");
  for (const std::string scheduler : {"ddim", "euler", "lms"}) {
    for (const size_t first : {1, 2, 3}) {
      CAPTURE(scheduler, first);
      Scene scene;
      scene.spec.scheduler = scheduler;
      scene.spec.first_step = static_cast<int64_t>(first);
      const double a = Abar(kTimesteps[first]);
      const at::Tensor by_hand = std::sqrt(a) * picture + std::sqrt(1 - a) * noise;
      const at::Tensor start = NoisedStart(scene.backbone, picture, noise, scene.spec);
      CHECK(at::allclose(start, by_hand, 1e-5, 1e-6));
      int64_t evaluations = 0;
      CHECK(Close(scene.Sample(start, &evaluations), scene.ByHand(by_hand, first, 0)));
      CHECK(evaluations == static_cast<int64_t>(4 - first) * 2 * 2);  // steps x streams x pictures
    }
  }
  // Solvers that look back begin as at a first step: with the last one alone, x0 as it is
  // predicted.
  Scene scene;
  scene.spec.scheduler = "dpmsolver";
  scene.spec.first_step = 3;
  const NoiseLevel level =
      MakeSampler(WithScheduler(scene.backbone.scheduler, "dpmsolver"), 4)->Level(3);
  const at::Tensor start = NoisedStart(scene.backbone, picture, noise, scene.spec);
  CHECK(at::allclose(start, level.signal * picture + level.noise * noise, 1e-5, 1e-6));
  CHECK(Close(scene.Sample(start), (start - level.noise * scene.epsilon) / level.signal));
}

TEST_CASE("no noise and no skipped step are plain drawing, bit for bit") {
  const at::Tensor latents = Draws("latents");
  for (const std::string scheduler : {"ddim", "euler", "lms", "dpmsolver", "pndm"}) {
    Scene scene;
    scene.spec.scheduler = scheduler;
    const at::Tensor drawn = scene.Sample(latents);
    scene.spec.extra_noise = {};
    CHECK(at::equal(scene.Sample(latents), drawn));
  }
}

TEST_CASE("what a scheduler or a schedule cannot do is refused") {
  using Catch::Contains;
  const at::Tensor latents = Draws("latents");
  Scene scene;
  scene.spec.first_step = 4;
  CHECK_THROWS_WITH(scene.Sample(latents), Contains("step 4 is to be the first of 4"));
  scene.spec.first_step = -1;
  CHECK_THROWS_WITH(scene.Sample(latents), Contains("step -1"));
  scene.spec.first_step = 1;
  scene.spec.scheduler = "pndm";
  CHECK_THROWS_WITH(scene.Sample(latents), Contains("PNDM") && Contains("ddim"));
  scene.spec.first_step = 0;
  scene.spec.noise_scale = 1;
  CHECK_THROWS_WITH(scene.Sample(latents), Contains("PNDM") && Contains("ddim"));
  scene.spec.scheduler = "ddim";
  scene.spec.noise_scale = -1;
  CHECK_THROWS_WITH(scene.Sample(latents), Contains("noise times -1"));
  scene.spec.noise_scale = 1;
  scene.spec.extra_noise = {};
  CHECK_THROWS_WITH(scene.Sample(latents), Contains("extra_noise"));
}

}  // namespace excise
