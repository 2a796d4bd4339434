#include "models/tensors/noise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>

#include <string>

namespace excise {

at::Tensor UnitNormal(Philox* rng, at::IntArrayRef shape) {
  at::Tensor noise = at::empty(shape, at::kFloat);
  rng->FillNormal(noise.data_ptr<float>(), static_cast<size_t>(noise.numel()));
  return noise;
}

at::Tensor LatentNoise(uint64_t seed, std::string_view root_id, uint64_t replicate,
                       at::IntArrayRef shape) {
  Philox rng({seed, root_id, replicate, Stream::kLatent, 0});
  return UnitNormal(&rng, shape);
}

at::Tensor SamplerNoise(uint64_t seed, std::string_view root_id, uint64_t replicate, uint64_t step,
                        at::IntArrayRef shape) {
  Philox rng({seed, root_id, replicate, Stream::kStepNoise, step});
  return UnitNormal(&rng, shape);
}

at::Tensor ExtraNoise(uint64_t seed, std::string_view root_id, uint64_t replicate, uint64_t step,
                      at::IntArrayRef shape) {
  // A name that no prompt has: the sampler's own noise at this step is another draw.
  return SamplerNoise(seed, std::string(root_id) + "/extra", replicate, step, shape);
}

std::function<at::Tensor(at::IntArrayRef shape)> TorchCpuNoise(uint64_t seed) {
  return [generator = at::detail::createCPUGenerator(seed)](at::IntArrayRef shape) {
    return at::empty(shape, at::kFloat).normal_(0, 1, generator);
  };
}

}  // namespace excise
