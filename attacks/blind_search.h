// What searches share that follow nothing: each draws a candidate, asks the oracle, and stops at
// the first success. Such searches are the controls of those that follow a gradient.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "attacks/attack.h"

namespace excise {

// A candidate to be drawn for a seed prompt, and what it may be drawn from.
struct BlindTry {
  Target& target;
  const Prompt& seed;
  int64_t round;  // how many were drawn before it
  int64_t index;  // of the candidate; it counts no draw that had been asked before
  Philox* token_rng;
  Philox* noise_rng;  // of another stream
};

class BlindSearch : public Attack {
 public:
  AttackTraits traits() const override;
  Work work(Acts victim) const override;
  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override;
  // The seed prompt is asked first, then `tries` candidates.
  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept& subject,
                                        const std::vector<Prompt>& seeds) const override;

 protected:
  using Draw = std::function<Prompt(const BlindTry&)>;
  // What draws candidates for `subject`, made once for all lanes of a pass.
  virtual Draw Drawer(const Backbone& unmodified, const Concept& subject) const = 0;
  // Throws UsageError for a seed prompt that has no candidate. Asked before anything is spent.
  virtual void Require(const Backbone& /*unmodified*/, const Prompt& /*seed*/) const {}

  void TriesField(ParamVisitor& v, const std::string& help);
  void LanesField(ParamVisitor& v, const std::string& controlled);

  int64_t tries_ = 2, lanes_ = 10;
};

}  // namespace excise
