// Where and in which precision models compute: one device and one dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "models/tensors/state_dict.h"

namespace excise {

// Weights and activations have this dtype; latents, the scheduler's arithmetic, guidance and
// pictures are float32 whatever it is. Reading files, erasing and attacking start from float32
// weights.
struct Compute {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
};

// `device`: "cpu", "cuda" or "cuda:N"; `dtype`: "fp32", "bf16" or "fp16". Throws UsageError, which
// says how to get it, for what this machine or this build cannot do: CUDA without a device, bf16 on
// a CPU without instructions for it (it would run at 1 GF/s), fp16 on a CPU (no kernels).
Compute ParseCompute(const std::string& device, const std::string& dtype);

// What this CPU has and the operating system lets programs use.
enum class CpuFeature { kAvxVnni, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmxBf16 };
bool CpuHas(CpuFeature feature);

// "cpu", or for CUDA the GPU's model and the driver's version, on which its numbers depend.
std::string DeviceKind(const Compute& compute);
// "float32", "bfloat16" or "float16".
std::string DtypeName(at::ScalarType dtype);

// Weights as `compute` wants them: moved, cast where floating point, and laid out for its kernels;
// the same tensors where nothing changes. On a CPU in bfloat16, layers' weights are packed
// (models/tensors/packed.h): nn.h reads them, everything else would need PackedDense.
StateDict Place(StateDict weights, const Compute& compute);
// A replacement of `old` under the same name, as Place made `old`.
at::Tensor PlaceLike(const at::Tensor& tensor, const at::Tensor& old);

}  // namespace excise
