// The interface of an attack: from prompts to a trajectory of candidate prompts, each with what it
// cost. An attack is one file, attacks/<name>.cc; see attacks/README.md.
#pragma once

#include <ATen/core/Tensor.h>

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

// What the victim made of a candidate, and what the oracle saw in it.
struct Answer {
  bool success = false;           // the oracle's word; never of a blocked picture
  double target_probability = 0;  // by the oracle; 0 of a blocked picture
  // Whether a filter held the picture back, and what was delivered, float (3, h, w) in [0,1]: for
  // attacks that declare that they look.
  std::optional<bool> blocked;
  at::Tensor picture;
};

// What an attack asks its target for. The key of what it crafts names exactly this, so the target
// refuses everything else.
struct AttackTraits {
  bool surrogate = false;   // Surrogate()
  bool unmodified = false;  // Unmodified(), ReferenceImages()
  bool gradients = false;   // Victim(), VictimHooks(), Sampling(): to compute on them
  bool weights = false;     // the same, and it gives the victim other weights (see Learnt)
  int64_t queries = 0;      // Query(): how often, for one prompt or concept
  bool sees_picture = false, sees_blocked = false;  // of an Answer
  // Crafted for a prompt (Craft), or once for all prompts of a concept (Learn, Use).
  enum class Per { kPrompt, kConcept } per = Per::kPrompt;
  int64_t seeds = 0;                    // Seeds(): the most prompts, for an attack on a concept
  bool held_out_names = false;          // its concept keeps them; nobody else's has any
  Ledger most = {};                     // that it spends on one; 0: not told. Queries: see above
  int64_t lanes = 1;                    // prompts crafted in one pass (CraftTogether)
  PromptForm form = PromptForm::kText;  // of the prompts that it makes
  bool latents = false;                 // it chooses initial latents, too
  // It chooses how prompts are drawn, too (Prompt::drawing), which all rows of a pass share: such
  // an attack has one lane.
  bool drawing = false;
  // What of an edited model it adapts to: "text_encoder" (it is another one), "text_view",
  // "text_margin" (its hooks answer); one that has none of these is attacked by the non-adaptive
  // form only. Empty: the attack goes through the whole model, whatever the method is.
  std::vector<std::string> adapts_to = {};

  // Whether it is crafted anew against every method. One that never meets the victim is crafted
  // once for all of them.
  bool ForEachMethod() const { return gradients || weights || queries > 0; }
  bool ReadsBase() const { return surrogate || unmodified; }
};

// What an attack works on: each part for those that declare it, everything metered. Throws Error
// for the rest, naming the trait.
class Target {
 public:
  virtual ~Target() = default;
  // The surrogate CLIP: the base model's own, or an independent one with its own tokenizer.
  virtual const ClipModel& Surrogate() = 0;
  virtual const Backbone& Unmodified() = 0;
  // Pictures of the *unmodified* model for a prompt, (n, 3, h, w) in [0,1].
  virtual at::Tensor ReferenceImages(const Prompt& prompt, int64_t n) = 0;
  // Prompts that ask for the concept, of the attacker's own split: no method trained on them, and
  // no metric reads them.
  virtual std::vector<Prompt> Seeds() = 0;
  // The edited model with its hooks. The functions of models/ compute on it, with gradients.
  virtual const Backbone& Victim() = 0;
  virtual const Hooks* VictimHooks() = 0;  // or null
  // How the victim samples: scheduler, steps, guidance scale, size. Also for those that ask the
  // oracle and declare `drawing`.
  virtual const SamplerSpec& Sampling() = 0;
  // Draws `prompt` on the searched noise (not the noise that metrics judge) and asks the oracle, a
  // judge whose weights differ from every reporting judge's. nullopt when the queries are spent.
  virtual std::optional<Answer> Query(const Prompt& prompt) = 0;
  // A stream of the attack's own, for a prompt or for a concept.
  virtual Philox Rng(const Prompt& prompt, uint64_t step = 0) = 0;
  virtual Philox Rng(const Concept& subject, uint64_t step = 0) = 0;
  virtual Ledger& ledger() = 0;
};

// Prompts of one concept that are attacked together under one victim, a lane each. What comes of a
// prompt depends on its own lane alone: a pass has a row for every lane, also for those without a
// prompt, because the number of rows and a row's place among them change bytes.
class Lanes {
 public:
  // Null where a lane has no prompt; at least one is not.
  explicit Lanes(std::vector<Target*> targets) : targets_(std::move(targets)) {}
  virtual ~Lanes() = default;
  size_t size() const { return targets_.size(); }
  Target* operator[](size_t lane) const { return targets_[lane]; }
  // Of the first lane that has a prompt: they share the models.
  Target& any() const;
  // Query of every lane that asks something. Default: one after another.
  virtual std::vector<std::optional<Answer>> Query(
      const std::vector<std::optional<Prompt>>& prompts);

 private:
  std::vector<Target*> targets_;
};

// A row of each lane, stacked: (lanes, ...). Where a lane has none (undefined), another's stands in
// its place; nobody reads what comes of it.
at::Tensor StackLanes(std::vector<at::Tensor> rows);

// What an attack on a concept learns once, for all prompts.
struct Learnt {
  // Of an attack on weights: fp32 replacements for the victim's, whose hooks stay.
  StateDict text_encoder, unet, vae;
  StateDict tensors;  // what Use needs
  Ledger ledger;      // what it cost
};

class Attack : public Parameterised {
 public:
  static constexpr const char* kKind = "attack";
  virtual int version() const = 0;
  virtual AttackTraits traits() const = 0;
  // Named settings, each an object for DecodeParams over the defaults; "paper" is what the paper
  // reports. The defaults are the ones for the emoji backbone.
  virtual std::map<std::string, Json> presets() const { return {}; }
  // What //experiments:tune searches; empty: there is nothing to tune.
  virtual SearchSpace search_space() const { return {}; }
  // What crafting for one prompt (or learning for one concept) computes, about, with these
  // parameters, where no early success ends the search: the estimate of how long a run takes comes
  // from it. `victim`: how the method acts that is searched against. Empty: next to nothing.
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
  // The attack whose control at equal budget this one is, or "": what a blind search finds.
  virtual std::string control_of() const { return ""; }

  // Of an attack on prompts: what it finds for one, at least one candidate.
  virtual Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const;
  // The same for a prompt in each of `lanes`, traits().lanes of them; a trajectory each, empty
  // where a lane has no prompt. Default: Craft, one after another.
  virtual std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept& subject,
                                                const std::vector<Prompt>& prompts) const;
  // Of an attack on a concept: what it learns; then, for each prompt and without asking anybody,
  // the prompt that uses it. Default: the prompt itself under the attack's id, which is all that an
  // attack on weights needs.
  virtual Learnt Learn(Target& target, const Concept& subject) const;
  virtual Prompt Use(const Learnt& learnt, const Backbone& base, const Concept& subject,
                     const Prompt& seed) const;
};

// The adversarial prompt that `attack` made of `seed`: its root, expected class and style stay
// (noise is keyed by the root); id "<root>+<attack>" and, from the second candidate on, "@<index>".
Prompt AdversarialPrompt(const Prompt& seed, std::string_view attack, int64_t index,
                         std::string text);

}  // namespace excise
