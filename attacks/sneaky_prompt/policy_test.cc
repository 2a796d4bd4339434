// The policy against PyTorch's modules and Adam (numbers of tools/policy_reference.py, torch
// 2.11.0), and that it learns.
#include "attacks/sneaky_prompt/policy.h"

#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>

namespace excise {
namespace {

constexpr int64_t kChoices = 5;

StateDict Sines() {
  Philox rng({1, "policy"});
  StateDict weights = FreshPolicy(kChoices, 3, &rng);
  int k = 0;
  for (const auto& [name, tensor] : weights) {
    std::vector<float> values;
    for (int64_t i = 0; i < tensor.numel(); ++i) {
      values.push_back(static_cast<float>(0.3 * std::sin(0.37 * static_cast<double>(i + 1) + k)));
    }
    tensor.copy_(at::tensor(values).view_as(tensor));
    ++k;
  }
  return weights;
}

}  // namespace

TEST_CASE("policy: losses and steps are PyTorch's") {
  const std::vector<int64_t> picks = {2, 0, 4};
  Policy policy(Sines(), 0.1);
  for (const double loss : {5.66960335, -0.33548239, 3.86923957}) {
    CHECK(PolicyLoss(policy.weights(), picks, 0.7).item<double>() == Approx(loss).margin(2e-5));
    policy.Learn(picks, 0.7);
  }
  const std::map<std::string, double> sums = {
      {"embedding.0.weight", 5.901081},  {"embedding.1.weight", 33.284553},
      {"embedding.2.weight", 28.094695}, {"logits.0.weight", 34.543352},
      {"logits.2.bias", 0.544656},       {"lstm.bias_hh_l0", 27.046816},
      {"lstm.weight_hh_l0", 821.737003}, {"lstm.weight_ih_l0", 830.640070},
      {"value.1.weight", 2.928983}};
  for (const auto& [name, sum] : sums) {
    INFO(name);
    CHECK(policy.weights().Get(name).abs().sum().item<double>() == Approx(sum).epsilon(1e-4));
  }
}

TEST_CASE("policy: picks follow its probabilities, stage by stage") {
  Policy policy(Sines(), 0.1);
  Philox rng({2, "picks"});
  std::vector<int> first(kChoices, 0), second(kChoices, 0);
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    const std::vector<int64_t> picks = policy.Draw(&rng);
    REQUIRE(picks.size() == 3);
    ++first[static_cast<size_t>(picks[0])];
    if (picks[0] == 2) ++second[static_cast<size_t>(picks[1])];
  }
  const std::vector<PolicyStage> stages = RunPolicy(policy.weights(), {2});
  REQUIRE(stages.size() == 2);
  const auto near = [](const std::vector<int>& counts, int of, const at::Tensor& logits) {
    for (int64_t i = 0; i < kChoices; ++i) {
      const double p = at::log_softmax(logits, 0)[i].exp().item<double>();
      const double deviation = std::sqrt(p * (1 - p) / of);
      CHECK(std::abs(counts[static_cast<size_t>(i)] / static_cast<double>(of) - p) < 4 * deviation);
    }
  };
  near(first, kDraws, stages[0].logits);
  near(second, first[2], stages[1].logits);
}

TEST_CASE("policy: it comes to pick what is rewarded") {
  Philox rng({3, "learn"});
  Policy policy(FreshPolicy(8, 2, &rng), 0.05);
  const auto worth = [](const std::vector<int64_t>& picks) {
    return (picks[0] == 3 ? 0.5 : 0) + (picks[1] == 6 ? 0.5 : 0);
  };
  double early = 0, late = 0;  // of the first 20, and of the last 100
  for (int i = 0; i < 300; ++i) {
    const std::vector<int64_t> picks = policy.Draw(&rng);
    if (i < 20) early += worth(picks);
    if (i >= 200) late += worth(picks);
    policy.Learn(picks, worth(picks));
  }
  CHECK(early < 12);
  CHECK(late > 95);
}

}  // namespace excise
