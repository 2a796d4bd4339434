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

class None : public TransferAttack {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  bool uses_surrogate() const override { return false; }
  Trajectory Craft(TransferTarget& target, const Concept&, const Prompt& prompt) const override {
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
