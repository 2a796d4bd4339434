// Normal noise as an input: initial latents are the same for every method and attack.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string_view>

#include "core/random.h"

namespace excise {

// Unit normal float32 of `shape` on the CPU, the next numbers of `rng`.
at::Tensor UnitNormal(Philox* rng, at::IntArrayRef shape);

// Unit normal float32 of `shape` (one sample: (4, h, w) or (1, 4, h, w)) from Philox(seed, root
// prompt id, replicate, stream latent), so that a sample never depends on its batch.
at::Tensor LatentNoise(uint64_t seed, std::string_view root_id, uint64_t replicate,
                       at::IntArrayRef shape);
// The same for what a stochastic sampler adds in U-Net call `step`.
at::Tensor SamplerNoise(uint64_t seed, std::string_view root_id, uint64_t replicate, uint64_t step,
                        at::IntArrayRef shape);

// The same for what a prompt's drawing asks to be added after U-Net call `step`, whatever the
// sampler adds itself.
at::Tensor ExtraNoise(uint64_t seed, std::string_view root_id, uint64_t replicate, uint64_t step,
                      at::IntArrayRef shape);

// Successive draws of unit normal float32 as of torch.randn(shape, generator=generator) with
// generator = torch.Generator("cpu").manual_seed(seed), for papers that drew so. The generator is
// this object's own; the global one is not touched.
std::function<at::Tensor(at::IntArrayRef shape)> TorchCpuNoise(uint64_t seed);

}  // namespace excise
