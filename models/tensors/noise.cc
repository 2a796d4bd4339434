#include "models/tensors/noise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>

#include "core/random.h"

namespace excise {

namespace {

at::Tensor Normal(const StreamKey& key, at::IntArrayRef shape) {
  at::Tensor noise = at::empty(shape, at::kFloat);
  Philox(key).FillNormal(noise.data_ptr<float>(), static_cast<size_t>(noise.numel()));
  return noise;
}

}  // namespace

at::Tensor LatentNoise(uint64_t seed, std::string_view root_id, uint64_t replicate,
                       at::IntArrayRef shape) {
  return Normal({seed, root_id, replicate, Stream::kLatent, 0}, shape);
}

at::Tensor SamplerNoise(uint64_t seed, std::string_view root_id, uint64_t replicate, uint64_t step,
                        at::IntArrayRef shape) {
  return Normal({seed, root_id, replicate, Stream::kStepNoise, step}, shape);
}

std::function<at::Tensor(at::IntArrayRef shape)> TorchCpuNoise(uint64_t seed) {
  return [generator = at::detail::createCPUGenerator(seed)](at::IntArrayRef shape) {
    return at::empty(shape, at::kFloat).normal_(0, 1, generator);
  };
}

}  // namespace excise
