// What: tokens whose text states are those of the seed prompt moved towards the concept
// Paper: Tsai, Hsu, Xie, Lin, Chen, Li, Chen, Yu, Huang, "Ring-A-Bell! How Reliable are Concept
//   Removal Methods for Diffusion Models?", ICLR 2024, arXiv 2310.10012
// Equation: p' = argmin over token sequences of |E(p) + eta c - E(p')|^2 over all positions, c =
//   mean over pairs of E(with the concept) - E(without), by a genetic algorithm
// Reference: chiayi-hsu/Ring-A-Bell @ e4585ad, the notebooks
// Deviations: the pairs are templates with the concept's known names and with its anchor (the
//   reference has lists of sentences, 19 of them left out by hand); sequences that did not change
//   are not scored again; the best one ever is kept; `elite` can spare the best ones mutation
// Needs: a surrogate CLIP's text encoder without gradients, and a concept with an anchor; never the
//   victim
// Caveats: defaults are reduced for the emoji backbone, whose states allow a smaller eta than 3;
//   preset "paper": 200 x 3000, eta 3, 16 tokens; the decoded string is evaluated, which may
//   tokenise differently (round_trip)
#include "attacks/ring_a_bell/ring_a_bell_search.h"

namespace excise {
namespace {

class RingABell : public Attack {
 public:
  void Fields(ParamVisitor& v) override { search_.Fields(v); }
  int version() const override { return 1; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.surrogate = true;
    return traits;
  }
  std::map<std::string, Json> presets() const override { return RingABellSearch::Presets(); }
  SearchSpace search_space() const override { return RingABellSearch::Space(); }
  Work work(Acts) const override { return search_.work(); }
  Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const override {
    return search_.Run("ring_a_bell", target, subject, prompt, VictimText(), 0);
  }

 private:
  RingABellSearch search_;
};

const Registration<Attack, RingABell> registration;

}  // namespace
}  // namespace excise
