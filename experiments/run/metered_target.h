// What an attack gets to work on: what its traits declare, metered; the rest is refused, because
// the key of what it crafts does not name it.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

#include "attacks/attack.h"
#include "experiments/lab/lab.h"
#include "experiments/run/erase_context.h"

namespace excise {

// The edited model in float32, where attacks compute.
struct VictimModel {
  const Backbone* model = nullptr;
  const Hooks* hooks = nullptr;  // or null
  SamplerSpec sampling = {};     // as the table's pictures are drawn
};

// What the victim made of a prompt on the searched noise.
struct SearchedPicture {
  at::Tensor image;      // uint8 (3, h, w), as drawn
  bool blocked = false;  // by its filter
  int64_t unet_evaluations = 0;
  at::Tensor replacement = {};  // uint8 (3, h, w): what is delivered of a blocked one
};

class MeteredTarget : public Target {
 public:
  // Pictures of the unmodified model for one prompt, each on noise of its own.
  using DrawReference = std::function<Drawn(const Prompt&, int64_t)>;
  // Of each prompt that is asked, the picture in its place, all in one pass.
  using DrawVictim =
      std::function<std::vector<SearchedPicture>(const std::vector<std::optional<Prompt>>&)>;

  // `victim` has no model where the attack is crafted once for all methods. Throws Error when the
  // attack may ask, and there is no oracle.
  MeteredTarget(const Lab& lab, size_t attack, AttackInputs inputs, DrawReference reference,
                VictimModel victim = {}, DrawVictim draw = {});

  const AttackInputs& inputs() const { return inputs_; }
  const ClipModel& Surrogate() override;
  const Backbone& Unmodified() override;
  // Of the attack's own prompt, or of one of its seeds.
  at::Tensor ReferenceImages(const Prompt& prompt, int64_t n) override;
  std::vector<Prompt> Seeds() override;
  const Backbone& Victim() override;
  const Hooks* VictimHooks() override;
  const SamplerSpec& Sampling() override;
  std::optional<Answer> Query(const Prompt& prompt) override;
  // Query of several targets of one attack under one victim, those that ask something: drawn and
  // judged in one pass, which has as many rows as there are targets.
  static std::vector<std::optional<Answer>> QueryTogether(
      const std::vector<MeteredTarget*>& targets,
      const std::vector<std::optional<Prompt>>& prompts);
  Philox Rng(const Prompt& prompt, uint64_t step) override;
  Philox Rng(const Concept& subject, uint64_t step) override;
  Ledger& ledger() override { return ledger_; }

 private:
  // `trait`: what traits() would have to say.
  void Require(bool declared, const char* what, const char* trait) const;
  void RequireVictim() const;
  // Whether a query is left; it is spent.
  bool MayAsk();
  Answer Receive(const SearchedPicture& picture, const OracleAnswer& word);
  Philox RngOf(const std::string& what, uint64_t step) const;

  const Lab& lab_;
  const Entry<Attack>& attack_;
  const AttackInputs inputs_;
  const DrawReference reference_;
  const VictimModel victim_;
  const DrawVictim draw_;
  int64_t queries_left_;
  Ledger ledger_;
};

class MeteredLanes : public Lanes {
 public:
  explicit MeteredLanes(std::vector<MeteredTarget*> targets)
      : Lanes({targets.begin(), targets.end()}), targets_(std::move(targets)) {}
  std::vector<std::optional<Answer>> Query(
      const std::vector<std::optional<Prompt>>& prompts) override {
    return MeteredTarget::QueryTogether(targets_, prompts);
  }

 private:
  const std::vector<MeteredTarget*> targets_;
};

}  // namespace excise
