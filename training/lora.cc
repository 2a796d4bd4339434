#include "training/lora.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/error.h"
#include "core/random.h"
#include "core/text.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "training/trainer.h"

namespace excise {
namespace {

constexpr std::string_view kWeight = ".weight", kA = ".lora_A.weight", kB = ".lora_B.weight";

void CheckSpec(const LoraSpec& spec) {
  if (spec.rank < 1) throw UsageError(fmt::format("LoRA rank is {}; it must be >= 1", spec.rank));
  if (!(spec.dropout >= 0 && spec.dropout < 1)) {
    throw UsageError(fmt::format("LoRA dropout is {}; it must be in [0, 1)", spec.dropout));
  }
}

double Scale(const LoraSpec& spec) { return spec.alpha / static_cast<double>(spec.rank); }

// (alpha / r) B A in the shape of the weight it adapts.
at::Tensor Delta(const at::Tensor& weight, const at::Tensor& a, const at::Tensor& b,
                 const LoraSpec& spec, const std::string& name) {
  if (a.dim() < 2 || b.dim() < 2 || a.size(0) != spec.rank || b.size(1) != spec.rank ||
      b.size(0) != weight.size(0) || a.numel() / spec.rank * weight.size(0) != weight.numel()) {
    throw Error(fmt::format(
        "LoRA of '{}': A ({}) and B ({}) do not fit the weight ({}) at rank {}; the adapter was "
        "made for another model or rank",
        name, fmt::join(a.sizes(), ", "), fmt::join(b.sizes(), ", "),
        fmt::join(weight.sizes(), ", "), spec.rank));
  }
  return at::matmul(b.flatten(1), a.flatten(1)).view(weight.sizes()) * Scale(spec);
}

StateDict Combine(const StateDict& weights, const StateDict& lora, const LoraSpec& spec) {
  CheckSpec(spec);
  StateDict out = weights;
  size_t pairs = 0;
  for (const auto& [name, a] : lora) {
    if (!EndsWith(name, kA)) continue;
    ++pairs;
    const std::string layer = name.substr(0, name.size() - kA.size());
    const std::string target = layer + std::string(kWeight);
    const at::Tensor& weight = weights.Get(target);
    const at::Tensor& b = lora.Get(layer + std::string(kB));
    out.Set(target, weight + Delta(weight, a, b, spec, target).to(weight.scalar_type()));
  }
  if (pairs == 0 || 2 * pairs != lora.size()) {
    throw Error(
        fmt::format("A LoRA must hold pairs of '<layer>{}' and '<layer>{}'; this one has "
                    "{} tensors in {} pairs",
                    kA, kB, lora.size(), pairs));
  }
  return out;
}

}  // namespace

StateDict InitLora(const StateDict& weights, const LoraSpec& spec, uint64_t seed) {
  CheckSpec(spec);
  StateDict eligible;
  for (const auto& [name, tensor] : weights) {
    if (EndsWith(name, kWeight) && (tensor.dim() == 2 || tensor.dim() == 4)) {
      eligible.Set(name, tensor);
    }
  }
  StateDict lora;
  for (const std::string& name : SelectParameters(eligible, spec.targets)) {
    const at::Tensor& weight = eligible.Get(name);
    const std::string layer = name.substr(0, name.size() - kWeight.size());
    std::vector<int64_t> a_shape = weight.sizes().vec(), b_shape = {weight.size(0), spec.rank};
    a_shape[0] = spec.rank;
    if (weight.dim() == 4) b_shape.insert(b_shape.end(), {1, 1});
    // Kaiming uniform with a = sqrt 5 is U(+-1 / sqrt(fan in)).
    const double bound = 1.0 / std::sqrt(static_cast<double>(weight.numel() / weight.size(0)));
    const std::string a_name = layer + std::string(kA);
    lora.Set(a_name, nn::InitUniform(a_shape, bound, seed, a_name).to(weight.device()));
    lora.Set(layer + std::string(kB),
             at::zeros(b_shape, weight.options().dtype(at::kFloat).requires_grad(false)));
  }
  return lora;
}

StateDict ApplyLora(const StateDict& weights, const StateDict& lora, const LoraSpec& spec) {
  if (spec.dropout > 0) {
    throw UsageError(
        "ApplyLora cannot drop a layer's input; train with LoraHooks, or set the LoRA "
        "dropout to 0");
  }
  return Combine(weights, lora, spec);
}

StateDict MergeLora(const StateDict& weights, const StateDict& lora, const LoraSpec& spec) {
  const NoGrad no_grad;
  return Combine(weights, lora, spec);
}

LoraHooks::LoraHooks(const StateDict& lora, const LoraSpec& spec, uint64_t seed)
    : lora_(lora), spec_(spec), seed_(seed) {
  CheckSpec(spec);
  for (const auto& [name, tensor] : lora) {
    if (tensor.dim() == 2) continue;
    throw UsageError(
        fmt::format("LoraHooks takes linear layers only, and '{}' is a convolution's; "
                    "narrow the targets, or use ApplyLora without dropout",
                    name));
  }
}

void LoraHooks::SetStep(int64_t step, int64_t first_sample) {
  step_ = step;
  first_sample_ = first_sample;
  calls_.clear();
}

bool LoraHooks::WantsLinear(const std::string& name) const {
  return lora_.Contains(name + std::string(kA));
}

at::Tensor LoraHooks::Mask(const std::string& name, const at::Tensor& x) {
  const std::string id = fmt::format("{}#{}", name, calls_[name]++);
  at::Tensor mask = at::empty(x.sizes(), at::kFloat);
  float* out = mask.data_ptr<float>();
  const int64_t batch = x.size(0), per_sample = x.numel() / std::max<int64_t>(1, batch);
  const auto limit = static_cast<uint64_t>(spec_.dropout * 4294967296.0);
  const auto kept = static_cast<float>(1.0 / (1.0 - spec_.dropout));
  for (int64_t i = 0; i < batch; ++i) {
    Philox random({seed_, id, static_cast<uint64_t>(first_sample_ + i), Stream::kDropout,
                   static_cast<uint64_t>(step_)});
    for (int64_t j = 0; j < per_sample; ++j) *out++ = random.NextU32() < limit ? 0.0F : kept;
  }
  return mask.to(x.device(), x.scalar_type());
}

at::Tensor LoraHooks::OnLinear(const std::string& name, const at::Tensor& x, at::Tensor y) {
  const at::Tensor& a = lora_.Get(name + std::string(kA));
  const at::Tensor& b = lora_.Get(name + std::string(kB));
  const at::Tensor input = spec_.dropout > 0 ? x * Mask(name, x) : x;
  return y + at::linear(at::linear(input, a), b) * Scale(spec_);
}

}  // namespace excise
