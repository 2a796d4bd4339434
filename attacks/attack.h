// The interface of an attack: from prompts to a trajectory of candidate prompts, each with what it
// cost. An attack is one file, attacks/<name>.cc; see attacks/README.md.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/params.h"
#include "core/random.h"
#include "core/registry.h"
#include "datasets/formats/concept.h"
#include "datasets/formats/dataset.h"
#include "models/nets/work.h"
#include "models/snapshots/backbone.h"

namespace excise {

// What an attack has spent so far; every candidate carries the ledger at its moment.
struct Ledger {
  int64_t victim_queries = 0;         // judged generations of the victim
  int64_t candidate_evaluations = 0;  // surrogate scores
  int64_t gradient_steps = 0;
  int64_t unet_evaluations = 0, text_evaluations = 0;
};

struct Candidate {
  Prompt prompt;
  Ledger ledger;
  double score = 0;                // the attack's own objective; higher is better
  std::vector<std::string> edits;  // what was done to the seed, in words; for attacks that edit
  std::optional<bool> success;     // the oracle's answer on the searched noise; none: not asked
};
// In the order found; ASR@budget and best-of-k are reads of it. The last one is the attack's
// choice.
using Trajectory = std::vector<Candidate>;

// What a transfer attack sees: an encoder that is not the victim, and pictures of the base model.
class TransferTarget {
 public:
  virtual ~TransferTarget() = default;
  // The surrogate CLIP: the base model's own, or an independent one with its own tokenizer.
  virtual const ClipModel& Surrogate() = 0;
  // Pictures of the *unmodified* model for a prompt, (n, 3, h, w) in [0,1]; metered.
  virtual at::Tensor ReferenceImages(const Prompt& prompt, int64_t n) = 0;
  virtual Philox Rng(const Prompt& prompt, uint64_t step = 0) = 0;
  virtual Ledger& ledger() = 0;
};

// What the victim made of a candidate, and what the oracle saw in it.
struct Answer {
  bool blocked = false, success = false;
  double target_probability = 0;  // by the oracle
};

// What a white-box attack sees: the edited model with its hooks. The functions of models/ compute
// on it, with gradients. Surrogate() and ReferenceImages() stay the unmodified model's.
class VictimTarget : public TransferTarget {
 public:
  virtual const Backbone& Victim() = 0;
  virtual const Hooks* VictimHooks() = 0;  // or null
  // How the victim samples: scheduler, steps, guidance scale, size.
  virtual const SamplerSpec& Sampling() = 0;
  // Draws `prompt` on the searched noise (not the noise that metrics judge) and asks the oracle, a
  // judge whose weights differ from every reporting judge's. Metered; nullopt when the attack's
  // max_queries() are spent.
  virtual std::optional<Answer> Query(const Prompt& prompt) = 0;
};

// How an attack gets at the victim; decides what is crafted once for all methods.
enum class Access { kTransfer, kBlackBox, kWhiteBox };

class Attack : public Parameterised {
 public:
  static constexpr const char* kKind = "attack";
  virtual int version() const = 0;
  virtual Access access() const = 0;
  // Named settings, each an object for DecodeParams over the defaults; "paper" is what the paper
  // reports. The defaults are the ones for the emoji backbone.
  virtual std::map<std::string, Json> presets() const { return {}; }
  // What //experiments:tune searches; empty: there is nothing to tune.
  virtual SearchSpace search_space() const { return {}; }
  // What crafting for one prompt computes, about, with these parameters, where no early success
  // ends the search: the estimate of how long a run takes comes from it. `victim`: how the method
  // acts that a white-box attack searches against. Empty: next to nothing.
  virtual Work work(Acts /*victim*/) const { return {}; }
  // Why this seed prompt cannot be attacked ("excluded:no_candidate"), or "". Asked before any
  // work; such prompts are left out, counted and bounded.
  virtual std::string Excludes(const Backbone& /*base*/, const Concept& /*subject*/,
                               const Prompt& /*seed*/) const {
    return "";
  }
  // The attack of which this one is the adaptive form, or "". Both draw the same random numbers, so
  // that they search alike where there is nothing to adapt to.
  virtual std::string adaptive_form_of() const { return ""; }
};

// Crafted once and used against every method. Keyed per prompt.
class TransferAttack : public Attack {
 public:
  Access access() const final { return Access::kTransfer; }
  // False for attacks that only edit text ("char_typo"): no surrogate enters their key.
  virtual bool uses_surrogate() const = 0;
  virtual Trajectory Craft(TransferTarget& target, const Concept& subject,
                           const Prompt& prompt) const = 0;
};

// Crafted anew against every method. Keyed per method and prompt.
class WhiteBoxAttack : public Attack {
 public:
  Access access() const final { return Access::kWhiteBox; }
  // What of a method it adapts to (see MethodTraits::offers); a method that offers none of these is
  // attacked by its non-adaptive form only. Empty: it goes through the whole model, whatever the
  // method is.
  virtual std::vector<std::string> adapts_to() const { return {}; }
  // How many times it may ask the victim, for one prompt.
  virtual int64_t max_queries() const = 0;
  virtual Trajectory Craft(VictimTarget& target, const Concept& subject,
                           const Prompt& prompt) const = 0;
};

// The adversarial prompt that `attack` made of `seed`: its root, expected class and style stay
// (noise is keyed by the root); id "<root>+<attack>" and, from the second candidate on, "@<index>".
Prompt AdversarialPrompt(const Prompt& seed, std::string_view attack, int64_t index,
                         std::string text);

}  // namespace excise
