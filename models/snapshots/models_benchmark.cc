// Forward passes at the sizes that experiments run, by dtype (0 float32, 1 bfloat16). Against
// diffusers and transformers: tools/compare_speed.py.
#include <ATen/ops/full.h>
#include <benchmark/benchmark.h>

#include "models/nets/nn.h"
#include "models/nets/unet.h"
#include "models/nets/vae.h"
#include "models/tensors/autograd.h"
#include "models/tensors/compute.h"

namespace excise {
namespace {

Compute ComputeOf(const benchmark::State& state) {
  return {at::kCPU, state.range(0) == 0 ? at::kFloat : at::kBFloat16};
}

// The embedded backbone's U-Net, batch 32.
void BM_EmojiUNet(benchmark::State& state) {
  const NoGrad no_grad;
  UNetConfig config;
  config.sample_size = 8;
  config.block_out_channels = {64, 160};
  config.down_block_types = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D"};
  config.up_block_types = {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D"};
  config.layers_per_block = 1;
  config.cross_attention_dim = 192;
  config.num_heads = {4, 4};
  const StateDict weights = Place(InitUNet(config, 1), ComputeOf(state));
  const at::Tensor sample = nn::InitNormal({32, 4, 8, 8}, 1, 1, "sample");
  const at::Tensor states = nn::InitNormal({32, 32, 192}, 1, 1, "states");
  const at::Tensor time = at::full({}, 500, at::kLong);
  for (auto _ : state) UNetForward(config, weights, sample, time, states);
  state.SetItemsProcessed(state.iterations() * 32);
}

// Stable Diffusion's VAE, one 256 x 256 picture.
void BM_VaeDecode(benchmark::State& state) {
  const NoGrad no_grad;
  const VaeConfig config;
  const StateDict weights = Place(InitVae(config, 1), ComputeOf(state));
  const at::Tensor latents = nn::InitNormal({1, 4, 32, 32}, 1, 1, "latents");
  for (auto _ : state) VaeDecode(config, weights, latents);
}

// The deepest convolutions of Stable Diffusion's U-Net: many weights, few positions.
void BM_DeepConvolution(benchmark::State& state) {
  const NoGrad no_grad;
  const int64_t side = state.range(1);
  StateDict weights;
  nn::InitLayer(&weights, "conv", {1280, 1280, 3, 3}, /*bias=*/true, 1);
  weights = Place(std::move(weights), ComputeOf(state));
  const at::Tensor x =
      nn::As(weights, "conv.bias", nn::InitNormal({2, 1280, side, side}, 1, 1, "x"));
  for (auto _ : state) nn::Conv2d(weights, "conv", x, 1, 1);
}

BENCHMARK(BM_EmojiUNet)->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(BM_VaeDecode)->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(BM_DeepConvolution)
    ->ArgsProduct({{0, 1}, {8, 16}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace excise
