#include "models/noise.h"

#include <ATen/ops/empty.h>

#include "core/random.h"

namespace excise {

at::Tensor LatentNoise(uint64_t seed, std::string_view root_id, uint64_t replicate,
                       at::IntArrayRef shape) {
  at::Tensor noise = at::empty(shape, at::kFloat);
  Philox philox(StreamKey{seed, root_id, replicate, Stream::kLatent, 0});
  philox.FillNormal(noise.data_ptr<float>(), static_cast<size_t>(noise.numel()));
  return noise;
}

}  // namespace excise
