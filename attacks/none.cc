// What: no attack: the prompt as it is
// Paper: none
// Equation: p' = p
// Reference: none
// Deviations: none
// Needs: nothing
// Caveats: none
#include "attacks/attack.h"

namespace excise {
namespace {

class None : public Attack {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  AttackTraits traits() const override { return {}; }
  Trajectory Craft(Target& target, const Concept&, const Prompt& prompt) const override {
    Candidate candidate;
    candidate.prompt = prompt;
    if (candidate.prompt.root_id.empty()) candidate.prompt.root_id = prompt.id;
    candidate.ledger = target.ledger();
    return {candidate};
  }
};

const Registration<Attack, None> registration;

}  // namespace
}  // namespace excise
