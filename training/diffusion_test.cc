// Reference values: diffusers 0.42.1 (tools/make_training_fixtures.py).
#include "training/diffusion.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

TEST_CASE("Targets and SNR weights equal diffusers'") {
  const StateDict f = LoadSafetensors(RepoFile("tests/fixtures/training.safetensors"));
  const at::Tensor x0 = f.Get("diffusion.x0"), noise = f.Get("diffusion.noise");
  const at::Tensor timesteps = f.Get("diffusion.timesteps"), snr = f.Get("diffusion.snr");
  SchedulerConfig config;
  CHECK(DiffusionTarget(config, x0, noise, timesteps).equal(noise));
  CHECK(MinSnrWeights(config, timesteps, 5.0).allclose(snr.clamp_max(5.0) / snr, 1e-4, 1e-6));
  config.prediction_type = "v_prediction";
  CHECK(DiffusionTarget(config, x0, noise, timesteps)
            .allclose(f.Get("diffusion.velocity"), 1e-5, 1e-5));
  CHECK(MinSnrWeights(config, timesteps, 5.0).allclose(snr.clamp_max(5.0) / (snr + 1), 1e-4, 1e-6));
  config.prediction_type = "sample";
  CHECK(DiffusionTarget(config, x0, noise, timesteps).equal(x0));
  CHECK(MinSnrWeights(config, timesteps, 5.0).allclose(snr.clamp_max(5.0), 1e-4, 1e-6));
  config.prediction_type = "flow";
  CHECK_THROWS_AS(DiffusionTarget(config, x0, noise, timesteps), Error);
  CHECK_THROWS_AS(MinSnrWeights(config, timesteps, 0.0), UsageError);
}

TEST_CASE("A sample's draw depends on seed, step and index, never on the batch") {
  const SchedulerConfig config;
  const auto draw = [&](uint64_t seed, int64_t step, int64_t first, int64_t batch) {
    return DrawDiffusion(config, seed, step, first, batch, {4, 3, 3}, 0.5);
  };
  const DiffusionDraw whole = draw(1, 5, 0, 8), tail = draw(1, 5, 3, 5);
  CHECK(tail.noise.equal(whole.noise.slice(0, 3)));
  CHECK(tail.timesteps.equal(whole.timesteps.slice(0, 3)));
  CHECK(tail.dropped.equal(whole.dropped.slice(0, 3)));
  CHECK_FALSE(draw(2, 5, 0, 8).noise.equal(whole.noise));
  CHECK_FALSE(draw(1, 6, 0, 8).noise.equal(whole.noise));
  CHECK_FALSE(draw(1, 6, 0, 8).timesteps.equal(whole.timesteps));
  CHECK_FALSE(whole.noise[0].equal(whole.noise[1]));
  // Dropping captions changes neither timesteps nor noise.
  const DiffusionDraw kept = DrawDiffusion(config, 1, 5, 0, 8, {4, 3, 3}, 0.0);
  CHECK(kept.timesteps.equal(whole.timesteps));
  CHECK(kept.noise.equal(whole.noise));
  CHECK_FALSE(kept.dropped.any().item<bool>());
}

TEST_CASE("Draws have the right distributions") {
  const SchedulerConfig config;
  const int64_t n = 4000;
  const DiffusionDraw d = DrawDiffusion(config, 3, 0, 0, n, {1, 2, 2}, 0.1);
  CHECK(d.timesteps.min().item<int64_t>() >= 0);
  CHECK(d.timesteps.max().item<int64_t>() <= 999);
  // Five standard errors of uniform 0..999, of a rate of 0.1, and of a normal's mean and variance.
  CHECK(std::abs(d.timesteps.to(at::kDouble).mean().item<double>() - 499.5) <
        5 * 288.7 / std::sqrt(n));
  CHECK(std::abs(d.dropped.to(at::kDouble).mean().item<double>() - 0.1) < 5 * 0.3 / std::sqrt(n));
  CHECK(std::abs(d.noise.mean().item<double>()) < 5 / std::sqrt(4.0 * n));
  CHECK(std::abs(d.noise.square().mean().item<double>() - 1) < 5 * std::sqrt(2 / (4.0 * n)));
  CHECK(DrawDiffusion(config, 3, 0, 0, 50, {1, 2, 2}, 1.0).dropped.all().item<bool>());
  CHECK_THROWS_AS(DrawDiffusion(config, 3, 0, 0, 4, {1, 2, 2}, 1.5), UsageError);
  CHECK_THROWS_AS(DrawDiffusion(config, 3, 0, 0, 0, {1, 2, 2}), Error);
}

TEST_CASE("Dropped captions become the empty one") {
  const at::Tensor states = at::ones({3, 2, 4}), empty = at::full({1, 2, 4}, -1.0);
  const at::Tensor out = DropCaptions(states, empty, at::tensor({0, 1, 0}).to(at::kBool));
  CHECK(out[0].equal(states[0]));
  CHECK(out[1].equal(empty[0]));
  CHECK(out[2].equal(states[2]));
  CHECK_THROWS_AS(DropCaptions(states, empty, at::tensor({0, 1}).to(at::kBool)), Error);
}

UNetConfig TinyUNet() {
  UNetConfig c;
  c.sample_size = 4;
  c.block_out_channels = {8, 16};
  c.down_block_types = {"CrossAttnDownBlock2D", "DownBlock2D"};
  c.up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D"};
  c.layers_per_block = 1;
  c.cross_attention_dim = 6;
  c.norm_num_groups = 4;
  c.num_heads = {2, 2};
  return c;
}

TEST_CASE("Denoising losses: micro-batches equal the batch, and noise as target is what counts") {
  const UNetConfig unet = TinyUNet();
  const SchedulerConfig config;
  const StateDict weights = InitUNet(unet, 4);
  const at::Tensor latents = nn::InitNormal({4, 4, 4, 4}, 1.0, 1, "latents");
  const at::Tensor states = nn::InitNormal({4, 3, 6}, 1.0, 1, "states");
  const auto losses = [&](int64_t from, int64_t count) {
    const DiffusionDraw draw = DrawDiffusion(config, 8, 2, from, count, {4, 4, 4});
    return DenoisingLosses(unet, config, weights, latents.slice(0, from, from + count),
                           states.slice(0, from, from + count), draw);
  };
  const at::Tensor whole = losses(0, 4);
  REQUIRE(whole.sizes() == at::IntArrayRef({4}));
  for (int64_t i = 0; i < 4; ++i) {
    CHECK(losses(i, 1)[0].item<double>() == Approx(whole[i].item<double>()).epsilon(1e-5));
  }
  // By the parts, for one sample.
  const DiffusionDraw draw = DrawDiffusion(config, 8, 2, 0, 4, {4, 4, 4});
  const double alpha =
      AlphasCumprod(config)[static_cast<size_t>(draw.timesteps[1].item<int64_t>())];
  const at::Tensor noised =
      latents.slice(0, 1, 2) * std::sqrt(alpha) + draw.noise.slice(0, 1, 2) * std::sqrt(1 - alpha);
  const at::Tensor answer =
      UNetForward(unet, weights, noised, draw.timesteps.slice(0, 1, 2), states.slice(0, 1, 2));
  CHECK((answer - draw.noise.slice(0, 1, 2)).square().mean().item<double>() ==
        Approx(whole[1].item<double>()).epsilon(1e-5));
}

}  // namespace
}  // namespace excise
