#include "models/tensors/packed.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <string>
#include <vector>

#include "core/error.h"

namespace excise {
namespace {

// Operators of LibTorch that have no C++ function, with the number of arguments that is relied on.
std::optional<c10::OperatorHandle> Find(const char* name, size_t arguments) {
  auto found = c10::Dispatcher::singleton().findSchema({name, ""});
  if (!found || found->schema().arguments().size() != arguments) return std::nullopt;
  return found;
}

struct Operators {
  std::optional<c10::OperatorHandle> pack_conv = Find("mkldnn::_reorder_convolution_weight", 6);
  std::optional<c10::OperatorHandle> pack_linear = Find("mkldnn::_reorder_linear_weight", 2);
  std::optional<c10::OperatorHandle> conv = Find("mkldnn::_convolution_pointwise", 10);
  std::optional<c10::OperatorHandle> linear = Find("mkldnn::_linear_pointwise", 6);
  bool complete() const { return pack_conv && pack_linear && conv && linear; }
};

const Operators& Ops() {
  static const Operators operators;
  return operators;
}

at::Tensor Call(const c10::OperatorHandle& op, torch::jit::Stack stack) {
  op.callBoxed(&stack);
  return stack.front().toTensor();
}

c10::IValue Pair(int64_t value) { return std::vector<int64_t>{value, value}; }

c10::IValue NoScalars() {
  return c10::impl::GenericList(c10::OptionalType::create(c10::NumberType::get()));
}

c10::IValue Optional(const std::optional<at::Tensor>& tensor) {
  return tensor ? c10::IValue(*tensor) : c10::IValue();
}

}  // namespace

at::Tensor Pack(const at::Tensor& weight) {
  const bool packable = weight.device().is_cpu() && weight.scalar_type() == at::kBFloat16 &&
                        !IsPacked(weight) && !weight.requires_grad();
  if (!packable || !Ops().complete()) return weight;
  if (weight.dim() == 2) return Call(*Ops().pack_linear, {weight.contiguous(), c10::IValue()});
  if (weight.dim() != 4) return weight;
  return Call(*Ops().pack_conv, {weight.contiguous(), Pair(weight.size(2) / 2), Pair(1), Pair(1),
                                 int64_t{1}, std::vector<int64_t>{}});
}

at::Tensor PackedDense(const at::Tensor& weight) { return weight.to_dense(); }

at::Tensor PackedConv2d(const at::Tensor& x, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias, int64_t stride, int64_t padding) {
  return Call(*Ops().conv,
              {x.contiguous(at::MemoryFormat::ChannelsLast), weight, Optional(bias), Pair(padding),
               Pair(stride), Pair(1), int64_t{1}, std::string("none"), NoScalars(), c10::IValue()});
}

at::Tensor PackedLinear(const at::Tensor& x, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias) {
  return Call(*Ops().linear,
              {x, weight, Optional(bias), std::string("none"), NoScalars(), c10::IValue()});
}

}  // namespace excise
