#include "attacks/seed_pictures.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "models/tensors/autograd.h"

namespace excise {

SeedPictures DrawSeedPictures(Target& target, int64_t pictures) {
  const NoGrad no_grad;
  const Backbone& victim = target.Victim();
  const std::vector<Prompt> seeds = target.Seeds();
  const auto used = std::min(static_cast<int64_t>(seeds.size()), pictures);
  SeedPictures drawn;
  std::vector<at::Tensor> latents;
  for (int64_t i = 0; i < used; ++i) {
    const int64_t n = pictures / used + (i < pictures % used ? 1 : 0);
    const at::Tensor images = target.ReferenceImages(seeds[static_cast<size_t>(i)], n);
    latents.push_back(VaeEncode(victim.vae_config, victim.vae, images * 2 - 1).mean *
                      victim.vae_config.scaling_factor);
    drawn.prompts.insert(drawn.prompts.end(), static_cast<size_t>(n),
                         seeds[static_cast<size_t>(i)]);
  }
  drawn.latents = at::cat(latents);
  return drawn;
}

SeedBatch DrawSeedBatch(Target& target, const Concept& subject, const SeedPictures& seeds,
                        int64_t step, int64_t batch) {
  Philox rng = target.Rng(subject, static_cast<uint64_t>(step));
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < batch; ++i) {
    rows.push_back(static_cast<int64_t>(rng.Below(static_cast<uint64_t>(seeds.latents.size(0)))));
  }
  return {at::tensor(rows, at::kLong).to(seeds.latents.device()),
          DrawDiffusion(target.Victim().scheduler, rng.NextU64(), step, 0, batch,
                        seeds.latents.sizes().slice(1))};
}

}  // namespace excise
