#include "tests/fake_device.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/DispatchStub.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <ATen/ops/_fused_sdp_choice.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace excise {
namespace {

using at::IntArrayRef;
using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using OptionalSize = std::optional<int64_t>;

std::atomic<int64_t> operations{0};

// ---- Memory. No address of x86-64 has bit 62 set and bit 63 not.

constexpr uintptr_t kMark = uintptr_t{1} << 62;

void* Marked(void* host) {
  return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(host) | kMark);
}
void* Host(const void* marked) {
  return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(marked) & ~kMark);
}

void Release(void* marked) { std::free(Host(marked)); }

class FakeAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t n) override {
    constexpr size_t kAlignment = 64;
    void* host = std::aligned_alloc(kAlignment, (n / kAlignment + 1) * kAlignment);
    if (host == nullptr) throw std::bad_alloc();
    return {Marked(host), Marked(host), &Release, FakeDevice()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Release; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    default_copy_data(Host(to), Host(from), count);
  }
};
FakeAllocator allocator;
REGISTER_ALLOCATOR(c10::DeviceType::PrivateUse1, &allocator)

// The same memory as a tensor of the CPU.
Tensor OnHost(const Tensor& t) {
  if (t.is_cpu()) return t;
  return at::from_blob(Host(t.const_data_ptr()), t.sizes(), t.strides(),
                       t.options().device(at::kCPU));
}

// ---- What LibTorch asks of a device: one, and a stream that is always done.

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  static constexpr c10::DeviceType static_type = c10::DeviceType::PrivateUse1;
  Guard() = default;
  explicit Guard(c10::DeviceType) {}
  c10::DeviceType type() const override { return static_type; }
  c10::Device exchangeDevice(c10::Device) const override { return FakeDevice(); }
  c10::Device getDevice() const override { return FakeDevice(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, FakeDevice());
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : public at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
};
Hooks hooks;
const bool hooked = [] {
  at::RegisterPrivateUse1HooksInterface(&hooks);
  c10::register_privateuse1_backend("fake");
  return true;
}();

// ---- Operators that make tensors, or show the same memory anew.

Tensor Empty(IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator,
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

Tensor EmptyStrided(IntArrayRef size, IntArrayRef stride, std::optional<at::ScalarType> dtype,
                    std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

// For outputs of operators: what stood there is not kept.
const Tensor& Resize(const Tensor& self, IntArrayRef size, std::optional<at::MemoryFormat> format) {
  const Tensor larger = at::empty(size, self.options(), format);
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(larger.storage());
  self.unsafeGetTensorImpl()->set_sizes_and_strides(larger.sizes(), larger.strides());
  return self;
}

Tensor CopyFrom(const Tensor& self, const Tensor& to, bool) {
  ++operations;
  OnHost(to).copy_(OnHost(self));
  return to;
}

Tensor CopyFromAndResize(const Tensor& self, const Tensor& to) {
  if (self.sizes() != to.sizes()) to.resize_(self.sizes());
  return CopyFrom(self, to, false);
}

// ---- Every other operator.

Tensor ToDevice(const Tensor& t) { return t.defined() && t.is_cpu() ? t.to(FakeDevice()) : t; }

// What the CPU gets for an argument: the same memory with the same strides, so that it takes the
// same loops. An output is its own, because it may be given another size.
c10::IValue Given(const c10::IValue& value, const c10::Argument& argument, const std::string& op) {
  const auto one = [&](const Tensor& t) {
    TORCH_CHECK(!t.defined() || !t.is_cpu() || t.dim() == 0,
                "Expected all tensors to be on the same device, but ", op, " got one of the CPU, [",
                t.sizes(), "], and one of the device.");
    if (!t.defined()) return t;
    return argument.is_out()
               ? at::empty_strided(t.sizes(), t.strides(), t.options().device(at::kCPU))
               : OnHost(t);
  };
  if (value.isTensor()) return one(value.toTensor());
  if (value.isDevice()) return c10::Device(at::kCPU);
  if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& t : value.toTensorVector()) list.push_back(one(t));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<OptionalTensor> list;
    for (const OptionalTensor& t : value.toOptionalTensorVector()) {
      list.push_back(t ? OptionalTensor(one(*t)) : t);
    }
    return list;
  }
  return value;
}

// What comes back: a tensor of the device for one that the CPU made.
c10::IValue Taken(const c10::IValue& value) {
  if (value.isTensor()) return ToDevice(value.toTensor());
  if (!value.isTensorList()) return value;
  c10::List<Tensor> list;
  for (const Tensor& t : value.toTensorVector()) list.push_back(ToDevice(t));
  return list;
}

void OnCpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  ++operations;
  const std::string name = c10::toString(op.operator_name());
  const std::vector<c10::Argument>& arguments = op.schema().arguments();
  const std::vector<c10::IValue> own = torch::jit::pop(*stack, arguments.size());
  std::vector<c10::IValue> given;
  for (size_t i = 0; i < own.size(); ++i) given.push_back(Given(own[i], arguments[i], name));
  for (const c10::IValue& value : given) stack->push_back(value);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);

  for (size_t i = 0; i < own.size(); ++i) {
    if (arguments[i].is_out()) CopyFromAndResize(given[i].toTensor(), own[i].toTensor());
  }
  const std::vector<c10::Argument>& returns = op.schema().returns();
  const size_t first = stack->size() - returns.size();
  for (size_t r = 0; r < returns.size(); ++r) {
    c10::IValue& value = (*stack)[first + r];
    TORCH_CHECK(returns[r].alias_info() == nullptr || returns[r].alias_info()->isWrite(), name,
                " shows the same memory anew; the device needs a kernel of its own for it.");
    const auto same = [&](const c10::IValue& v) { return v.isTensor() && v.is(value); };
    const auto written = std::find_if(given.begin(), given.end(), same);
    value = written != given.end() ? own[written - given.begin()] : Taken(value);
  }
}

Tensor Convolution(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                   IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, bool transposed,
                   IntArrayRef output_padding, int64_t groups) {
  OptionalTensor host_bias;
  if (bias && bias->defined()) host_bias = OnHost(*bias);
  return ToDevice(at::convolution(OnHost(x), OnHost(weight), host_bias, stride, padding, dilation,
                                  transposed, output_padding, groups));
}

std::tuple<Tensor, Tensor, Tensor> ConvolutionBackward(const Tensor& gradient, const Tensor& x,
                                                       const Tensor& weight, IntArrayRef stride,
                                                       IntArrayRef padding, IntArrayRef dilation,
                                                       bool transposed, IntArrayRef output_padding,
                                                       int64_t groups, std::array<bool, 3> wanted) {
  const std::vector<int64_t> bias = {weight.size(transposed ? 1 : 0)};
  const auto [of_x, of_weight, of_bias] = at::convolution_backward(
      OnHost(gradient), OnHost(x), OnHost(weight), IntArrayRef(bias), stride, padding, dilation,
      transposed, output_padding, groups, wanted);
  return {ToDevice(of_x), ToDevice(of_weight), ToDevice(of_bias)};
}

// ---- Attention: whichever of its kernels the CPU takes.

int64_t AttentionKernel(const Tensor& q, const Tensor& k, const Tensor& v,
                        const OptionalTensor& mask, double dropout, bool causal,
                        std::optional<double> scale, bool grouped) {
  OptionalTensor host_mask;
  if (mask && mask->defined()) host_mask = OnHost(*mask);
  const auto chosen = static_cast<sdp::SDPBackend>(at::_fused_sdp_choice(
      OnHost(q), OnHost(k), OnHost(v), host_mask, dropout, causal, scale, grouped));
  return static_cast<int64_t>(chosen == sdp::SDPBackend::flash_attention
                                  ? sdp::SDPBackend::overrideable
                                  : sdp::SDPBackend::math);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, c10::SymInt, c10::SymInt, Tensor, Tensor, Tensor>
Attention(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& mask,
          double dropout, bool causal, bool, std::optional<double> scale) {
  OptionalTensor host_mask;
  if (mask && mask->defined()) host_mask = OnHost(*mask);
  const auto [out, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(
      OnHost(q), OnHost(k), OnHost(v), dropout, causal, host_mask, scale);
  return {ToDevice(out), ToDevice(log_sums), {}, {}, q.size(2), k.size(2), {}, {}, {}};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> AttentionBackward(
    const Tensor& gradient, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask,
    std::array<bool, 4>, const Tensor& out, const Tensor& log_sums, const Tensor&, const Tensor&,
    int64_t, int64_t, double dropout, bool causal, const Tensor&, const Tensor&,
    std::optional<double> scale) {
  OptionalTensor host_mask;
  if (mask.defined()) host_mask = OnHost(mask);
  const auto [of_q, of_k, of_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      OnHost(gradient), OnHost(q), OnHost(k), OnHost(v), OnHost(out), OnHost(log_sums), dropout,
      causal, host_mask, scale);
  return {ToDevice(of_q), ToDevice(of_k), ToDevice(of_v), {}};
}

}  // namespace

int64_t FakeDeviceOperations() { return operations; }

}  // namespace excise

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &excise::AttentionKernel)
}  // namespace at::native

namespace excise {
namespace {

// Operators that make tensors, or show the same memory anew, and kernels that LibTorch asks for by
// names of their own.
void AddOwn(torch::Library* library) {
  library->impl("empty.memory_format", &Empty);
  library->impl("empty_strided", &EmptyStrided);
  library->impl("resize_", &Resize);
  library->impl("_copy_from", &CopyFrom);
  library->impl("_copy_from_and_resize", &CopyFromAndResize);
  library->impl("as_strided", &at::native::as_strided_tensorimpl);
  library->impl("view", &at::native::view);
  library->impl("_reshape_alias", &at::native::_reshape_alias);
  library->impl("unfold", &at::native::unfold);
  library->impl("convolution_overrideable", &Convolution);
  library->impl("convolution_backward_overrideable", &ConvolutionBackward);
  library->impl("_scaled_dot_product_fused_attention_overrideable", &Attention);
  library->impl("_scaled_dot_product_fused_attention_overrideable_backward", &AttentionBackward);
}

// Some operators have a kernel for CPUs and another, which rounds otherwise, for every device that
// brings none. Theirs is the CPU's, too.
void AddKernelsOfTheCpu(torch::Library* library) {
  c10::Dispatcher& dispatcher = c10::Dispatcher::singleton();
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    const std::optional<c10::OperatorHandle> op = dispatcher.findOp(name);
    if (!op || !op->hasSchema() || name.name.rfind("aten::", 0) != 0) continue;
    if (!op->hasKernelForDispatchKey(c10::DispatchKey::CPU) ||
        op->hasKernelForDispatchKey(c10::DispatchKey::PrivateUse1)) {
      continue;
    }
    const std::string own = name.name.substr(6);
    library->impl(
        name.overload_name.empty() ? own.c_str() : (own + "." + name.overload_name).c_str(),
        torch::CppFunction::makeFromBoxedFunction<&OnCpu>());
  }
}

}  // namespace
}  // namespace excise

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&excise::OnCpu>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  excise::AddOwn(&library);
  excise::AddKernelsOfTheCpu(&library);
}
