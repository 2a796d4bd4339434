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

at::Tensor WithRandomWords(const at::Tensor& ids, const ClipTextConfig& config, Philox* rng) {
  const int64_t words = std::min(config.bos_token_id, config.eos_token_id);
  at::Tensor drawn = ids.to(at::kCPU).clone();
  int64_t* const id = drawn.data_ptr<int64_t>();
  for (int64_t i = 0; i < drawn.numel(); ++i) {
    if (id[i] < words && rng->Below(2) == 0) {
      id[i] = static_cast<int64_t>(rng->Below(static_cast<uint64_t>(words)));
    }
  }
  return drawn.to(ids.device());
}

at::Tensor TokenStateLoss(const ClipTowers& tuned, const ClipTowers& original,
                          const QuadrupletBatch& batch, const at::Tensor& empty_prompt,
                          const TokenStateTerms& terms, LayerHooks* hooks,
                          const at::Tensor& random_texts) {
  const int64_t n = std::min(terms.texts, batch.safe_ids.size(0));
  at::Tensor held = at::cat({batch.safe_ids.slice(0, 0, n), empty_prompt});
  if (random_texts.defined()) held = at::cat({held, random_texts});
  const int64_t kept = held.size(0);
  at::Tensor targets;
  {
    const NoGrad no_grad;
    targets = States(original, held, nullptr);
  }
  at::Tensor read = held;
  if (terms.redirect > 0) read = at::cat({held, batch.unsafe_ids.slice(0, 0, n)});
  const at::Tensor states = States(tuned, read, hooks);
  at::Tensor loss = terms.hold * TokenStateDrift(states.slice(0, 0, kept), targets).mean();
  if (terms.redirect > 0) {
    loss = loss +
           terms.redirect * TokenStateDrift(states.slice(0, kept), targets.slice(0, 0, n)).mean();
  }
  return loss;
}

}  // namespace excise
