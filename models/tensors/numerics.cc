#include "models/tensors/numerics.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/Version.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/erf.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "core/text.h"
#include "models/tensors/autograd.h"

// The build names the LibTorch that it links; other compilers of these files know its version only.
#ifndef EXCISE_LIBTORCH_ID
#define EXCISE_LIBTORCH_ID TORCH_VERSION
#endif

namespace excise {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// What oneDNN may use: its limit, else the widest set of this CPU that it distinguishes.
std::string OneDnnIsa() {
  const std::string limit = Environment("ONEDNN_MAX_CPU_ISA");
  if (!limit.empty()) return limit;
  return CpuHas(CpuFeature::kAmxBf16)      ? "AVX512_CORE_AMX"
         : CpuHas(CpuFeature::kAvx512Bf16) ? "AVX512_CORE_BF16"
         : CpuHas(CpuFeature::kAvx512Vnni) ? "AVX512_CORE_VNNI"
         : CpuHas(CpuFeature::kAvx512)     ? "AVX512_CORE"
         : CpuHas(CpuFeature::kAvxVnni)    ? "AVX2_VNNI"
                                           : "AVX2";
}

// Fixed inputs, drawn by counter: the same on every machine that agrees on Philox and Box-Muller.
at::Tensor Input(const std::string& name, at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  Philox philox(StreamKey{2026, "numerics/" + name, 0, Stream::kData, 0});
  philox.FillNormal(tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel()));
  return tensor;
}

class Battery {
 public:
  void Add(const at::Tensor& tensor) {
    const at::Tensor bytes = tensor.detach().contiguous();
    hash_.Update(bytes.const_data_ptr(), bytes.nbytes());
  }
  // The value and the gradients of sum(y * direction), with a fixed direction.
  void AddWithGradients(const std::string& name, const at::Tensor& y,
                        const std::vector<at::Tensor>& inputs) {
    Add(y);
    const at::Tensor loss = (y * Input(name + "/direction", y.sizes())).sum();
    for (const at::Tensor& gradient : Gradients(loss, inputs)) Add(gradient);
  }
  std::string Hex() { return hash_.Hex(); }

 private:
  Sha256 hash_;
};

void MatrixOps(Battery* battery) {
  const at::Tensor a = Input("a", {192, 160}).requires_grad_();
  const at::Tensor b = Input("b", {160, 224}).requires_grad_();
  battery->AddWithGradients("mm", at::mm(a, b), {a, b});
  const at::Tensor bias = Input("bias", {192}).requires_grad_();
  const at::Tensor x = Input("x", {4, 33, 160}).requires_grad_();
  battery->AddWithGradients("linear", at::linear(x, a, bias), {x, a, bias});
  const at::Tensor p = Input("p", {6, 33, 48}), q = Input("q", {6, 48, 65});
  battery->Add(at::bmm(p, q));
  const at::Tensor heads = Input("heads", {2, 4, 96, 32}).requires_grad_();
  battery->AddWithGradients("sdpa", at::scaled_dot_product_attention(heads, heads, heads), {heads});
}

void ConvolutionOps(Battery* battery) {
  const at::Tensor x = Input("image", {4, 32, 16, 16}).requires_grad_();
  const at::Tensor w3 = Input("w3", {64, 32, 3, 3}).requires_grad_();
  const at::Tensor b3 = Input("b3", {64}).requires_grad_();
  battery->AddWithGradients("conv3", at::conv2d(x, w3, b3, {1, 1}, {1, 1}), {x, w3, b3});
  battery->AddWithGradients("conv3s2", at::conv2d(x, w3, b3, {2, 2}, {1, 1}), {x, w3, b3});
  const at::Tensor w1 = Input("w1", {48, 32, 1, 1}).requires_grad_();
  battery->AddWithGradients("conv1", at::conv2d(x, w1), {x, w1});
  const at::Tensor scale = Input("scale", {32}).requires_grad_();
  const at::Tensor shift = Input("shift", {32}).requires_grad_();
  battery->AddWithGradients("group_norm", at::group_norm(x, 8, scale, shift, 1e-5),
                            {x, scale, shift});
}

void PointwiseOps(Battery* battery) {
  const at::Tensor x = Input("points", {64, 321}).requires_grad_();
  battery->AddWithGradients("exp", at::exp(x), {x});
  battery->AddWithGradients("erf", at::erf(x), {x});
  battery->AddWithGradients("tanh", at::tanh(x), {x});
  battery->AddWithGradients("log", at::log(x * x + 0.5), {x});
  battery->AddWithGradients("silu", at::silu(x), {x});
  battery->AddWithGradients("gelu", at::gelu(x), {x});
  battery->AddWithGradients("softmax", at::softmax(x, -1), {x});
  const at::Tensor scale = Input("scale1", {321}).requires_grad_();
  const at::Tensor shift = Input("shift1", {321}).requires_grad_();
  battery->AddWithGradients("layer_norm", at::layer_norm(x, {321}, scale, shift, 1e-5),
                            {x, scale, shift});
  battery->Add(x.sum());
  battery->Add(x.mean({1}));
}

// Gradients are needed even where the caller has switched them off.
class EnableGrad {
 public:
  EnableGrad() : previous_(c10::GradMode::is_enabled()) { c10::GradMode::set_enabled(true); }
  ~EnableGrad() { c10::GradMode::set_enabled(previous_); }

 private:
  bool previous_;
};

std::string RunBattery() {
  const EnableGrad grad;
  const Autocast off(false);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  Battery battery;
  MatrixOps(&battery);
  ConvolutionOps(&battery);
  PointwiseOps(&battery);
  if (threads != 1) at::set_num_threads(threads);
  return battery.Hex();
}

}  // namespace

void PinGolden() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    throw Error(
        "This CPU has no AVX2 with FMA, which the golden profile pins so that bytes agree between "
        "machines. Run another profile, whose results are compared within a tolerance.");
  }
  const std::pair<const char*, const char*> pins[] = {{"ATEN_CPU_CAPABILITY", "avx2"},
                                                      {"ONEDNN_MAX_CPU_ISA", "AVX2"},
                                                      {"MKL_CBWR", "COMPATIBLE"},
                                                      {"OMP_NUM_THREADS", "1"},
                                                      {"MKL_NUM_THREADS", "1"}};
  for (const auto& [name, value] : pins) setenv(name, value, /*overwrite=*/1);
  const std::string isa = at::get_cpu_capability();
  if (isa != "AVX2") {
    throw Error(fmt::format(
        "The golden profile needs ATen's AVX2 kernels, but {} ones were chosen before PinGolden() "
        "was called. Call it at the start of main, before the first tensor operation.",
        isa));
  }
  UseOneThreadPerWorker();
}

bool NarrowTo(const std::string& isa, const std::string& onednn_isa, const std::string& mkl_cbwr) {
  bool changed = false;
  const auto set = [&](const char* name, const std::string& value) {
    changed = changed || Environment(name) != value;
    setenv(name, value.c_str(), /*overwrite=*/1);
  };
  const bool narrower = isa == "AVX2" && CpuHas(CpuFeature::kAvx512);
  if (narrower) set("ATEN_CPU_CAPABILITY", "avx2");
  const std::vector<std::string> widening = {
      "AVX2",           "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16",
      "AVX512_CORE_AMX"};
  const auto rank = [&](const std::string& name) {
    return std::find(widening.begin(), widening.end(), name) - widening.begin();
  };
  if (rank(onednn_isa) < rank(OneDnnIsa())) set("ONEDNN_MAX_CPU_ISA", onednn_isa);
  const std::vector<std::string> modes = {"COMPATIBLE", "AVX2", "AVX2,STRICT", "AVX512",
                                          "AVX512,STRICT"};
  if (IsOneOf(mkl_cbwr, modes)) {
    set("MKL_CBWR", mkl_cbwr);
  } else if (mkl_cbwr.empty() && narrower) {
    set("MKL_ENABLE_INSTRUCTIONS", "AVX2");
  }
  return changed;
}

void UseOneThreadPerWorker() {
  thread_local bool done = false;
  if (done) return;
  done = true;
  // In OpenMP builds the count belongs to the calling thread.
  at::set_num_threads(1);
  static std::once_flag once;
  std::call_once(once, [] {
    // Refused once the pool runs; then other code has started it, and its size is not ours to set.
    if (at::get_num_interop_threads() != 1) at::set_num_interop_threads(1);
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    // Otherwise every at::empty would be filled, for nothing: no op here reads what it did not set.
    at::globalContext().setDeterministicFillUninitializedMemory(false);
  });
}

Json Numerics(const Compute& compute) {
  return {{"device", DeviceKind(compute)},
          {"dtype", DtypeName(compute.dtype)},
          {"intra_op_threads", at::get_num_threads()},
          {"isa", at::get_cpu_capability()},
          {"mkl_cbwr", Environment("MKL_CBWR")},
          {"onednn_isa", OneDnnIsa()},
          {"libtorch", EXCISE_LIBTORCH_ID},
          {"deterministic", at::globalContext().deterministicAlgorithms()},
          {"fingerprint", NumericsFingerprint()}};
}

std::string NumericsFingerprint() {
  static const std::string fingerprint = RunBattery();
  return fingerprint;
}

}  // namespace excise
