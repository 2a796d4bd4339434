// Initial latents as an input: the same for every method and attack.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace excise {

// Unit normal float32 of `shape` (one sample: (4, h, w) or (1, 4, h, w)) from Philox(seed, root
// prompt id, replicate, stream latent), so that a sample never depends on its batch.
at::Tensor LatentNoise(uint64_t seed, std::string_view root_id, uint64_t replicate,
                       at::IntArrayRef shape);

}  // namespace excise
