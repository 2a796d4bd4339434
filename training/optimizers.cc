#include "training/optimizers.h"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

void CheckSpec(const OptimizerSpec& spec) {
  static const std::vector<std::string> known = {"sgd", "adam", "adamw"};
  if (!IsOneOf(spec.name, known)) {
    throw UsageError(
        fmt::format("Unknown optimizer '{}'.{}", spec.name, DidYouMeanOrKnown(spec.name, known)));
  }
  const auto require = [](bool ok, const char* field, double value, const char* range) {
    if (!ok)
      throw UsageError(fmt::format("optimizer.{} is {}; it must be {}", field, value, range));
  };
  require(spec.lr >= 0, "lr", spec.lr, "at least 0");
  require(spec.beta1 >= 0 && spec.beta1 < 1, "beta1", spec.beta1, "in [0, 1)");
  require(spec.beta2 >= 0 && spec.beta2 < 1, "beta2", spec.beta2, "in [0, 1)");
  require(spec.eps >= 0, "eps", spec.eps, "at least 0");
  require(spec.weight_decay >= 0, "weight_decay", spec.weight_decay, "at least 0");
  require(spec.momentum >= 0 && spec.momentum < 1, "momentum", spec.momentum, "in [0, 1)");
  if (spec.name != "sgd" && spec.momentum != 0) {
    throw UsageError(fmt::format("optimizer.momentum belongs to sgd; {} has beta1", spec.name));
  }
}

std::vector<at::Tensor> Pick(const std::vector<at::Tensor>& from, const std::vector<size_t>& at) {
  std::vector<at::Tensor> out;
  out.reserve(at.size());
  for (const size_t i : at) out.push_back(from[i]);
  return out;
}

}  // namespace

Optimizer::Optimizer(const OptimizerSpec& spec, std::vector<std::string> names,
                     std::vector<at::Tensor> parameters)
    : spec_(spec), names_(std::move(names)), parameters_(std::move(parameters)) {
  CheckSpec(spec_);
  if (parameters_.empty() || names_.size() != parameters_.size()) {
    throw UsageError(
        fmt::format("An optimizer needs one name a parameter and at least one; got {} "
                    "names and {} parameters",
                    names_.size(), parameters_.size()));
  }
  const NoGrad no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& p = parameters_[i];
    if ((p.scalar_type() != at::kFloat && p.scalar_type() != at::kDouble) || !p.is_contiguous()) {
      throw Error(fmt::format(
          "Parameter '{}' is {}{}; optimizers take contiguous float32 or "
          "float64. Convert it before training",
          names_[i], c10::toString(p.scalar_type()), p.is_contiguous() ? "" : ", not contiguous"));
    }
    first_.push_back(at::zeros_like(p));
    if (spec_.name != "sgd") second_.push_back(at::zeros_like(p));
  }
  steps_ = at::zeros({static_cast<int64_t>(parameters_.size())},
                     parameters_.front().options().dtype(at::kFloat).requires_grad(false));
  for (size_t i = 0; i < parameters_.size(); ++i) {
    step_views_.push_back(steps_.select(0, static_cast<int64_t>(i)));
  }
}

void Optimizer::Step(const std::vector<at::Tensor>& gradients, double lr_factor) {
  if (gradients.size() != parameters_.size()) {
    throw Error(fmt::format("Optimizer::Step got {} gradients for {} parameters", gradients.size(),
                            parameters_.size()));
  }
  const NoGrad no_grad;
  std::vector<size_t> moved;
  std::vector<at::Tensor> used;
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined()) continue;
    moved.push_back(i);
    // The fused kernels walk raw memory, so layouts have to agree.
    used.push_back(gradients[i].contiguous());
  }
  if (moved.empty()) return;
  if (spec_.name == "sgd") {
    SgdStep(moved, used, spec_.lr * lr_factor);
  } else {
    AdamStep(moved, used, spec_.lr * lr_factor);
  }
}

void Optimizer::AdamStep(const std::vector<size_t>& moved, const std::vector<at::Tensor>& gradients,
                         double lr) {
  const std::vector<at::Tensor> parameters = Pick(parameters_, moved);
  const std::vector<at::Tensor> exp_avg = Pick(first_, moved), exp_avg_sq = Pick(second_, moved);
  const std::vector<at::Tensor> steps = Pick(step_views_, moved);
  at::_foreach_add_(steps, 1);
  const auto update =
      spec_.name == "adamw" ? &at::_ops::_fused_adamw_::call : &at::_ops::_fused_adam_::call;
  update(parameters, gradients, exp_avg, exp_avg_sq, /*max_exp_avg_sqs=*/{}, steps, lr, spec_.beta1,
         spec_.beta2, spec_.weight_decay, spec_.eps, /*amsgrad=*/false, /*maximize=*/false,
         /*grad_scale=*/std::nullopt, /*found_inf=*/std::nullopt);
}

void Optimizer::SgdStep(const std::vector<size_t>& moved, const std::vector<at::Tensor>& gradients,
                        double lr) {
  const std::vector<at::Tensor> parameters = Pick(parameters_, moved);
  std::vector<at::Tensor> direction = gradients;
  if (spec_.weight_decay != 0) {
    direction = at::_foreach_add(gradients, parameters, spec_.weight_decay);
  }
  at::_foreach_add_(Pick(step_views_, moved), 1);
  if (spec_.momentum != 0) {
    // The buffer starts at zero, so the first direction is the gradient itself, as in torch.
    const std::vector<at::Tensor> buffers = Pick(first_, moved);
    at::_foreach_mul_(buffers, spec_.momentum);
    at::_foreach_add_(buffers, direction);
    direction = buffers;
  }
  at::_foreach_add_(parameters, direction, -lr);
}

StateDict Optimizer::State() const {
  StateDict state;
  const bool sgd = spec_.name == "sgd";
  for (size_t i = 0; i < names_.size(); ++i) {
    state.Set((sgd ? "momentum." : "exp_avg.") + names_[i], first_[i]);
    if (!sgd) state.Set("exp_avg_sq." + names_[i], second_[i]);
  }
  state.Set("steps", steps_);
  return state;
}

void Optimizer::Load(const StateDict& state) {
  const NoGrad no_grad;
  for (const auto& [name, target] : State()) {
    const at::Tensor& source = state.Get(name);
    if (source.sizes() != target.sizes() || source.scalar_type() != target.scalar_type()) {
      throw Error(
          fmt::format("Optimizer state '{}' has another shape or type than the parameter; "
                      "it was saved by another model",
                      name));
    }
    at::Tensor destination = target;
    destination.copy_(source);
  }
}

double GlobalNorm(const std::vector<at::Tensor>& tensors) {
  const NoGrad no_grad;
  std::vector<at::Tensor> defined;
  for (const at::Tensor& t : tensors) {
    if (t.defined()) defined.push_back(t);
  }
  if (defined.empty()) return 0;
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(defined, 2))).item<double>();
}

void ClipByNorm(std::vector<at::Tensor>* tensors, double max_norm, double norm) {
  const double scale = max_norm / (norm + 1e-6);
  if (scale >= 1) return;
  const NoGrad no_grad;
  std::vector<at::Tensor> defined;
  for (const at::Tensor& t : *tensors) {
    if (t.defined()) defined.push_back(t);
  }
  at::_foreach_mul_(defined, scale);
}

}  // namespace excise
