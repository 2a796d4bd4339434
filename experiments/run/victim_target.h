// What a white-box attack gets: the edited model, metered, and an oracle that says whether a
// candidate worked.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>

#include "attacks/attack.h"
#include "experiments/lab/lab.h"
#include "experiments/run/erase_context.h"

namespace excise {

// The edited model in float32, where attacks compute.
struct VictimModel {
  const Backbone* model = nullptr;
  const Hooks* hooks = nullptr;  // or null
  SamplerSpec sampling;          // as the table's pictures are drawn
};

// What the victim made of a prompt on the searched noise.
struct SearchedPicture {
  at::Tensor image;      // uint8 (3, h, w), as drawn
  bool blocked = false;  // by its filter
  int64_t unet_evaluations = 0;
};

class MeteredVictim : public VictimTarget {
 public:
  using DrawVictim = std::function<SearchedPicture(const Prompt&)>;

  // `attack`: index of a WhiteBoxAttack. Throws Error when it may ask, and there is no oracle.
  MeteredVictim(const Lab& lab, size_t attack, AttackInputs inputs, VictimModel victim,
                MeteredTarget::DrawReference reference, DrawVictim draw);

  const ClipModel& Surrogate() override { return base_.Surrogate(); }
  at::Tensor ReferenceImages(const Prompt& prompt, int64_t n) override {
    return base_.ReferenceImages(prompt, n);
  }
  Philox Rng(const Prompt& prompt, uint64_t step) override { return base_.Rng(prompt, step); }
  Ledger& ledger() override { return base_.ledger(); }
  const Backbone& Victim() override { return *victim_.model; }
  const Hooks* VictimHooks() override { return victim_.hooks; }
  const SamplerSpec& Sampling() override { return victim_.sampling; }
  std::optional<Answer> Query(const Prompt& prompt) override;

 private:
  MeteredTarget base_;
  const VictimModel victim_;
  const DrawVictim draw_;
  int64_t queries_left_;
};

}  // namespace excise
