// The stage "retained": pictures of the unmodified model from which methods learn, with their
// latents. The key names no method, so that all methods share them.
#include <ATen/core/Tensor.h>

#include "experiments/run/pipeline.h"
#include "experiments/run/stored.h"

namespace excise {

Drawn Pipeline::Retained(int64_t seed, const std::vector<Prompt>& prompts) {
  const Json key = RetainedKey(lab_, seed, prompts);
  const auto n = static_cast<int64_t>(prompts.size());
  auto stored =
      Load(key, [&](const Artifact& artifact) { return ReadRetained(artifact, lab_, n); });
  if (stored) return *std::move(stored);
  std::vector<Shot> shots;
  for (const Prompt& prompt : prompts) shots.push_back({prompt, 0});
  Drawn drawn = Draw(Base().model, nullptr, shots, seed, lab_.experiment.sampler.unit_size);
  StateDict tensors;
  tensors.Set("latents", drawn.latents.to(at::kCPU, at::kFloat).contiguous());
  const Json meta = {{"shape", drawn.images.sizes().vec()},
                     {"evaluations_per_image", drawn.evaluations_per_image}};
  Put(key, {{"images.u8", PictureBytes(drawn.images)},
            {"latents.safetensors", TensorBytes(tensors, store_.root() / ".tmp")},
            {"pictures.json", CanonicalJson(meta)}});
  return drawn;
}

}  // namespace excise
