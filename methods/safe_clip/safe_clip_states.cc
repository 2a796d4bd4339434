#include "methods/safe_clip/safe_clip_states.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include <algorithm>

#include "models/tensors/autograd.h"

namespace excise {
namespace {

at::Tensor States(const ClipTowers& towers, const at::Tensor& ids, LayerHooks* hooks) {
  return ClipTextForward(towers.config.text, towers.weights,
                         ClipTokenEmbeddings(towers.weights, ids), ids, {}, hooks)
      .last_hidden_state;
}

}  // namespace

at::Tensor TokenStateDrift(const at::Tensor& states, const at::Tensor& original) {
  return (states - original).square().sum({1, 2}) / original.square().sum({1, 2});
}

at::Tensor TokenStateLoss(const ClipTowers& tuned, const ClipTowers& original,
                          const QuadrupletBatch& batch, const at::Tensor& empty_prompt,
                          const TokenStateTerms& terms, LayerHooks* hooks) {
  const int64_t n = std::min(terms.texts, batch.safe_ids.size(0));
  const at::Tensor held = at::cat({batch.safe_ids.slice(0, 0, n), empty_prompt});
  at::Tensor targets;
  {
    const NoGrad no_grad;
    targets = States(original, held, nullptr);
  }
  at::Tensor read = held;
  if (terms.redirect > 0) read = at::cat({held, batch.unsafe_ids.slice(0, 0, n)});
  const at::Tensor states = States(tuned, read, hooks);
  at::Tensor loss = terms.hold * TokenStateDrift(states.slice(0, 0, n + 1), targets).mean();
  if (terms.redirect > 0) {
    loss = loss +
           terms.redirect * TokenStateDrift(states.slice(0, n + 1), targets.slice(0, 0, n)).mean();
  }
  return loss;
}

}  // namespace excise
