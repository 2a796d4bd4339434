#include "models/tensors/compute.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <cpuid.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "models/tensors/packed.h"

namespace excise {
namespace {

struct NamedDtype {
  const char* flag;
  const char* name;
  at::ScalarType type;
};
constexpr NamedDtype kDtypes[] = {{"fp32", "float32", at::kFloat},
                                  {"bf16", "bfloat16", at::kBFloat16},
                                  {"fp16", "float16", at::kHalf}};

at::ScalarType ParseDtype(const std::string& text) {
  std::vector<std::string> known;
  for (const NamedDtype& dtype : kDtypes) {
    if (text == dtype.flag) return dtype.type;
    known.push_back(dtype.flag);
  }
  throw UsageError(fmt::format("--dtype={}: unknown.{} Known: fp32, bf16 and, on CUDA, fp16.", text,
                               DidYouMean(text, known)));
}

void CheckCpuBf16() {
  if (!CpuHas(CpuFeature::kAvx512Bf16) && !CpuHas(CpuFeature::kAmxBf16)) {
    throw UsageError(
        "--dtype=bf16: this CPU has neither AVX512-BF16 nor AMX, so bf16 would run at about 1 GF/s "
        "(fp32: a hundred times that). Use --dtype=fp32.");
  }
  // Set to an older instruction set, oneDNN falls back to reference loops, on any CPU.
  const char* limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  const std::string isa = limit == nullptr ? "" : limit;
  const std::vector<std::string> enough = {"",
                                           "ALL",
                                           "DEFAULT",
                                           "AVX512_CORE_BF16",
                                           "AVX512_CORE_FP16",
                                           "AVX512_CORE_AMX",
                                           "AVX10_1_512",
                                           "AVX10_1_512_AMX",
                                           "AVX512_CORE_AMX_FP16",
                                           "AVX10_1_512_AMX_FP16"};
  if (!IsOneOf(isa, enough)) {
    throw UsageError(
        fmt::format("--dtype=bf16: the environment variable ONEDNN_MAX_CPU_ISA={} keeps this CPU "
                    "from its bf16 instructions, and bf16 would run at about 1 GF/s. Unset it, or "
                    "use --dtype=fp32.",
                    isa));
  }
}

at::Device ParseDevice(const std::string& text) {
  if (text == "cpu") return at::kCPU;
  int index = 0;
  if (text != "cuda") {
    const std::string prefix = "cuda:";
    const char* end = text.data() + text.size();
    bool good = StartsWith(text, prefix) && text.size() > prefix.size();
    if (good) {
      const auto parsed = std::from_chars(text.data() + prefix.size(), end, index);
      good = parsed.ec == std::errc() && parsed.ptr == end && index >= 0 && index < 128;
    }
    if (!good) {
      throw UsageError(
          fmt::format("--device={}: unknown.{} Known: cpu, cuda, cuda:N (N = 0, 1 "
                      "...).",
                      text, DidYouMean(text, {"cpu", "cuda"})));
    }
  }
  if (!at::hasCUDA()) {
    throw UsageError(
        fmt::format("--device={}: this build's LibTorch computes on the CPU only. Build with "
                    "LIBTORCH=/dir naming a LibTorch for CUDA, or use --device=cpu.",
                    text));
  }
  const int count = at::detail::getCUDAHooks().getNumGPUs();
  if (count == 0) {
    throw UsageError(
        fmt::format("--device={}: no CUDA device is visible. Check that nvidia-smi lists a GPU, "
                    "that its driver is new enough for CUDA 13, and CUDA_VISIBLE_DEVICES; or use "
                    "--device=cpu.",
                    text));
  }
  if (index >= count) {
    throw UsageError(fmt::format("--device={}: this machine shows {} CUDA device{}, cuda:0{}.",
                                 text, count, count == 1 ? "" : "s",
                                 count == 1 ? "" : fmt::format(" to cuda:{}", count - 1)));
  }
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

// A function of a library of the NVIDIA driver, which machines without a GPU do not have.
template <class Function>
Function* DriverFunction(const char* library, const char* name) {
  void* handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL);  // stays loaded, as LibTorch keeps it
  return handle == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(handle, name));
}

std::string GpuModel(int index) {
  constexpr const char* kDriver = "libcuda.so.1";
  auto* init = DriverFunction<int(unsigned)>(kDriver, "cuInit");
  auto* get = DriverFunction<int(int*, int)>(kDriver, "cuDeviceGet");
  auto* name_of = DriverFunction<int(char*, int, int)>(kDriver, "cuDeviceGetName");
  int device = 0;
  char name[256] = "";
  const bool known = init != nullptr && get != nullptr && name_of != nullptr && init(0) == 0 &&
                     get(&device, index) == 0 && name_of(name, sizeof(name), device) == 0;
  return known ? name : "unknown GPU";
}

std::string DriverVersion() {
  constexpr const char* kManagement = "libnvidia-ml.so.1";
  auto* init = DriverFunction<int()>(kManagement, "nvmlInit_v2");
  auto* version_of =
      DriverFunction<int(char*, unsigned)>(kManagement, "nvmlSystemGetDriverVersion");
  char version[96] = "";
  const bool known = init != nullptr && version_of != nullptr && init() == 0 &&
                     version_of(version, sizeof(version)) == 0;
  return known ? version : "unknown";
}

// What nn::Linear and nn::Conv2d read; tables of embeddings are read otherwise.
bool IsLayerWeight(const std::string& name) {
  const std::string suffix = ".weight";
  return name.size() > suffix.size() && name.find("embedding") == std::string::npos &&
         EndsWith(name, suffix);
}

}  // namespace

Compute ParseCompute(const std::string& device, const std::string& dtype) {
  Compute compute;
  compute.dtype = ParseDtype(dtype);
  compute.device = ParseDevice(device);
  if (!compute.device.is_cpu()) return compute;
  if (compute.dtype == at::kHalf) {
    throw UsageError(
        "--dtype=fp16: float16 is for CUDA; LibTorch has no float16 kernels worth using on a CPU. "
        "Use --dtype=fp32, or bf16 where the CPU has AMX or AVX512-BF16.");
  }
  if (compute.dtype == at::kBFloat16) CheckCpuBf16();
  return compute;
}

bool CpuHas(CpuFeature feature) {
  __builtin_cpu_init();
  // These ask whether the operating system saves the wide registers, too.
  if (!__builtin_cpu_supports("avx2")) return false;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0, eax1 = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  unsigned ignored[3];
  if (eax >= 1) __get_cpuid_count(7, 1, &eax1, &ignored[0], &ignored[1], &ignored[2]);
  switch (feature) {
    case CpuFeature::kAvxVnni:
      return (eax1 >> 4 & 1) != 0;
    case CpuFeature::kAvx512:
      return wide;
    case CpuFeature::kAvx512Vnni:
      return wide && (ecx >> 11 & 1) != 0;
    case CpuFeature::kAvx512Bf16:
      return wide && (eax1 >> 5 & 1) != 0;
    case CpuFeature::kAmxBf16:
      return wide && (edx >> 22 & 1) != 0;
  }
  return false;
}

std::string DeviceKind(const Compute& compute) {
  if (compute.device.is_cpu()) return "cpu";
  return fmt::format("cuda: {}, driver {}", GpuModel(std::max<int>(0, compute.device.index())),
                     DriverVersion());
}

std::string DtypeName(at::ScalarType dtype) {
  for (const NamedDtype& known : kDtypes) {
    if (known.type == dtype) return known.name;
  }
  return c10::toString(dtype);
}

StateDict Place(StateDict weights, const Compute& compute) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : weights) names.push_back(name);
  const bool packs = compute.device.is_cpu() && compute.dtype == at::kBFloat16;
  for (const std::string& name : names) {
    // One at a time, so that a model is never in memory twice.
    const at::Tensor& old = weights.Get(name);
    at::Tensor placed =
        old.to(compute.device, old.is_floating_point() ? compute.dtype : old.scalar_type());
    if (packs && IsLayerWeight(name)) placed = Pack(placed);
    weights.Set(name, std::move(placed));
  }
  return weights;
}

at::Tensor PlaceLike(const at::Tensor& tensor, const at::Tensor& old) {
  const at::Tensor placed = tensor.to(old.device(), old.scalar_type());
  return IsPacked(old) ? Pack(placed) : placed;
}

}  // namespace excise
