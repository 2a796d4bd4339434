// The searcher of SneakyPrompt (arXiv 2305.12082): a recurrent policy that picks one piece after
// another, trained by policy gradient with a critic on what the picks were worth.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/random.h"
#include "models/tensors/state_dict.h"
#include "training/optimizers.h"

namespace excise {

// Fresh weights for `stages` picks among `choices`, as PyTorch initialises its modules: an
// embedding of the pick before (of the first stage: of nothing, and never trained), one LSTM, and
// for each stage a layer of logits and one for the critic's value. float32.
StateDict FreshPolicy(int64_t choices, int64_t stages, Philox* rng);

// (choices) logits and () value of every stage for these picks; of the first picks.size() + 1
// stages, as far as there are so many. Differentiable.
struct PolicyStage {
  at::Tensor logits, value;
};
std::vector<PolicyStage> RunPolicy(const StateDict& weights, const std::vector<int64_t>& picks);

// - sum log p(pick) (reward - value) + sum (reward - value)^2, where no gradient passes through the
// first sum's difference: the reward comes at the end and is not discounted.
at::Tensor PolicyLoss(const StateDict& weights, const std::vector<int64_t>& picks, double reward);

class Policy {
 public:
  // `weights` as FreshPolicy makes them; they are changed in place.
  Policy(StateDict weights, double lr);
  const StateDict& weights() const { return weights_; }
  // A pick a stage, each with the probability that the policy gives it.
  std::vector<int64_t> Draw(Philox* rng) const;
  // A step of Adam on PolicyLoss.
  void Learn(const std::vector<int64_t>& picks, double reward);

 private:
  StateDict weights_;
  size_t stages_ = 0;
  std::vector<std::string> names_;
  std::unique_ptr<Optimizer> optimizer_;
};

}  // namespace excise
