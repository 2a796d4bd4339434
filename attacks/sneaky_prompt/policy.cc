#include "attacks/sneaky_prompt/policy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/lstm_cell.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"

namespace excise {
namespace {

constexpr int64_t kWidth = 30;

std::string Of(const char* part, size_t stage, const char* what) {
  return fmt::format("{}.{}.{}", part, stage, what);
}

// The index of the interval of the probabilities in which `uniform` falls, in [0, 1).
int64_t PickOf(const at::Tensor& probabilities, double uniform) {
  const at::Tensor sums = probabilities.to(at::kDouble).cumsum(0).contiguous();
  const double* begin = sums.data_ptr<double>();
  const double* end = begin + sums.numel();
  const double* at = std::upper_bound(begin, end, uniform * end[-1]);
  return std::min<int64_t>(at - begin, sums.numel() - 1);
}

}  // namespace

StateDict FreshPolicy(int64_t choices, int64_t stages, Philox* rng) {
  StateDict weights;
  const uint64_t seed = rng->NextU64();
  const double bound = 1 / std::sqrt(static_cast<double>(kWidth));
  const auto uniform = [&](const std::string& name, at::IntArrayRef shape) {
    weights.Set(name, nn::InitUniform(shape, bound, seed, name));
  };
  for (const char* direction : {"ih", "hh"}) {
    uniform(fmt::format("lstm.weight_{}_l0", direction), {4 * kWidth, kWidth});
    uniform(fmt::format("lstm.bias_{}_l0", direction), {4 * kWidth});
  }
  for (size_t stage = 0; stage < static_cast<size_t>(stages); ++stage) {
    weights.Set(Of("embedding", stage, "weight"),
                UnitNormal(rng, {stage == 0 ? 1 : choices, kWidth}));
    uniform(Of("logits", stage, "weight"), {choices, kWidth});
    uniform(Of("logits", stage, "bias"), {choices});
    uniform(Of("value", stage, "weight"), {1, kWidth});
    uniform(Of("value", stage, "bias"), {1});
  }
  return weights;
}

std::vector<PolicyStage> RunPolicy(const StateDict& weights, const std::vector<int64_t>& picks) {
  std::vector<PolicyStage> stages;
  at::Tensor hidden = at::zeros({1, kWidth}), cell = at::zeros({1, kWidth});
  for (size_t stage = 0; stage <= picks.size(); ++stage) {
    if (!weights.Contains(Of("logits", stage, "weight"))) break;
    const at::Tensor pick = at::tensor({stage == 0 ? 0 : picks[stage - 1]}, at::kLong);
    const at::Tensor input = at::embedding(weights.Get(Of("embedding", stage, "weight")), pick);
    std::tie(hidden, cell) = at::lstm_cell(
        input, {hidden, cell}, weights.Get("lstm.weight_ih_l0"), weights.Get("lstm.weight_hh_l0"),
        weights.Get("lstm.bias_ih_l0"), weights.Get("lstm.bias_hh_l0"));
    const auto layer = [&](const char* part) {
      return at::linear(hidden, weights.Get(Of(part, stage, "weight")),
                        weights.Get(Of(part, stage, "bias")))[0];
    };
    stages.push_back({layer("logits"), layer("value")[0]});
  }
  return stages;
}

at::Tensor PolicyLoss(const StateDict& weights, const std::vector<int64_t>& picks, double reward) {
  const std::vector<PolicyStage> stages = RunPolicy(weights, picks);
  at::Tensor loss = at::zeros({});
  for (size_t stage = 0; stage < picks.size(); ++stage) {
    const at::Tensor advantage = reward - stages[stage].value;
    const at::Tensor log_p = at::log_softmax(stages[stage].logits, 0)[picks[stage]];
    loss = loss - log_p * advantage.detach() + advantage.square();
  }
  return loss;
}

Policy::Policy(StateDict weights, double lr) : weights_(std::move(weights)) {
  while (weights_.Contains(Of("logits", stages_, "weight"))) ++stages_;
  std::vector<at::Tensor> moved;
  for (const auto& [name, tensor] : weights_) {
    if (name == Of("embedding", 0, "weight")) continue;
    names_.push_back(name);
    moved.push_back(tensor);
  }
  OptimizerSpec spec;
  spec.name = "adam";
  spec.lr = lr;
  optimizer_ = std::make_unique<Optimizer>(spec, names_, std::move(moved));
}

std::vector<int64_t> Policy::Draw(Philox* rng) const {
  const NoGrad no_grad;
  std::vector<int64_t> picks;
  while (picks.size() < stages_) {
    const at::Tensor logits = RunPolicy(weights_, picks).back().logits;
    picks.push_back(PickOf(logits.softmax(0), rng->Uniform()));
  }
  return picks;
}

void Policy::Learn(const std::vector<int64_t>& picks, double reward) {
  StateDict leaves = weights_;
  std::vector<at::Tensor> moved;
  for (const std::string& name : names_) {
    moved.push_back(weights_.Get(name).detach().requires_grad_(true));
    leaves.Set(name, moved.back());
  }
  optimizer_->Step(Gradients(PolicyLoss(leaves, picks, reward), moved));
}

}  // namespace excise
