// What attacks on a concept learn from: pictures that the unmodified model draws for the attacker's
// own prompts.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "attacks/attack.h"
#include "training/diffusion.h"

namespace excise {

struct SeedPictures {
  at::Tensor latents;           // scaled, (pictures, channels, h, w), by the victim's VAE
  std::vector<Prompt> prompts;  // one a picture
};

// `pictures` of them, shared out evenly over the target's seeds. The edited model reads them later,
// so its VAE encodes them.
SeedPictures DrawSeedPictures(Target& target, int64_t pictures);

// Which pictures a gradient step sees, and its timesteps and noise.
struct SeedBatch {
  at::Tensor rows;  // (batch) int64: indices of pictures
  DiffusionDraw draw;
};
SeedBatch DrawSeedBatch(Target& target, const Concept& subject, const SeedPictures& seeds,
                        int64_t step, int64_t batch);

}  // namespace excise
