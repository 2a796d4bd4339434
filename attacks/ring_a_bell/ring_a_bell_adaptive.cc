// What: ring_a_bell that also reads the defence: its text encoder, its view, its margin
// Paper: Tsai et al., "Ring-A-Bell!", ICLR 2024, arXiv 2310.10012; adaptive form after Das, Duddu,
//   Zhang, Asokan, "Espresso", arXiv 2404.19227 (there "RingBell+")
// Equation: p' = argmin |t - E(p')|^2 + lambda (|t - V(p')|^2 + |t - E("")|^2 (m(p') + 0.02)+), t =
//   E(p) + eta c: V what the victim's U-Net gets of p', m the margin of its hooks
//   (of a filter on pictures at p's embedding, moved by the mean difference between pictures and
//   their prompts)
// Reference: ssg-research/concept-filtering @ fb368b8 adds terms of the target alone, so the order
//   of candidates cannot change; this is what they should be
// Deviations: terms that a defence does not offer are left out; the margin counts in units of the
//   distance of an empty prompt, so that lambda means the same for both terms, and by a hinge
// Needs: the victim's text encoder and hooks, a surrogate CLIP of the same vocabulary and width, a
//   concept with an anchor and, against a filter on pictures, some of the unmodified model; it
//   never draws with the victim
// Caveats: lambda = 0 is ring_a_bell bit for bit; the extra terms cost a second text evaluation a
//   candidate
#include "attacks/ring_a_bell/ring_a_bell_search.h"

namespace excise {
namespace {

class RingABellAdaptive : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    search_.Fields(v);
    v.Number("lambda", &lambda_, "weight of what the defence adds to the distance", {.min = 0});
  }
  int version() const override { return 2; }
  std::map<std::string, Json> presets() const override { return RingABellSearch::Presets(); }
  // The rest is its plain form's, tuned there: both search alike.
  SearchSpace search_space() const override { return {{"lambda", {0.1, 0.3, 1, 3, 10}}}; }
  Work work(Acts) const override {
    Work work = search_.work();
    work.push_back(work.front());  // by the defended encoder, too
    return work;
  }
  std::string adaptive_form_of() const override { return "ring_a_bell"; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.surrogate = traits.gradients = true;
    traits.unmodified = lambda_ != 0;
    traits.adapts_to = {"text_encoder", "text_view", "text_margin"};
    return traits;
  }
  Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const override {
    VictimText victim(target);
    if (lambda_ != 0) victim.Move(victim.Gap(target, subject, prompt));
    return search_.Run("ring_a_bell_adaptive", target, subject, prompt, victim, lambda_);
  }

 private:
  RingABellSearch search_;
  double lambda_ = 0.1;
};

const Registration<Attack, RingABellAdaptive> registration;

}  // namespace
}  // namespace excise
