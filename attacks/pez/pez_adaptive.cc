// What: pez that also reads the defence: its text encoder, its view of a prompt, its margin
// Paper: Wen et al., "Hard Prompts Made Easy", NeurIPS 2023, arXiv 2302.03668; adaptive form after
//   Das, Duddu, Zhang, Asokan, "Espresso", arXiv 2404.19227 (there "PEZ+")
// Equation: L = 1 - cos(T(p), f) + lambda (1 - cos(V(p), f) + (m(p) + 0.02)+): T surrogate, V what
//   the victim's U-Net gets of p, m the margin of its hooks (of a filter on pictures at p's
//   embedding, moved by the mean difference between pictures and their prompts), f as in pez
// Reference: ssg-research/concept-filtering @ fb368b8 adds terms of the target images alone, whose
//   gradient is zero, and has them commented out; this is what they should be
// Deviations: terms that a defence does not offer are left out; the margin counts by a hinge, since
//   a smooth loss goes on past the boundary and loses the concept
// Needs: the victim's text encoder and hooks with gradients, a surrogate CLIP of the same
//   vocabulary and width, and pictures of the unmodified model; it never draws with the victim
// Caveats: lambda = 0 is pez bit for bit; the extra terms cost a second text evaluation a candidate
#include "attacks/pez/pez_search.h"

namespace excise {
namespace {

constexpr const char* kName = "pez_adaptive";

class PezAdaptive : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    search_.Fields(v);
    v.Number("lambda", &lambda_, "weight of what the defence adds to the loss", {.min = 0});
  }
  int version() const override { return 3; }
  std::map<std::string, Json> presets() const override { return PezSearch::Presets(); }
  // The rest is its plain form's, tuned there: both search alike.
  SearchSpace search_space() const override { return {{"lambda", {0.1, 0.3, 1, 3, 10}}}; }
  Work work(Acts) const override {
    Work work = search_.work();
    // The defended encoder reads whole rows.
    const auto rows = static_cast<double>(search_.restarts);
    work.push_back({Pass::kTextGradient, static_cast<double>(search_.iterations), rows});
    return work;
  }
  std::string adaptive_form_of() const override { return "pez"; }
  AttackTraits traits() const override {
    AttackTraits traits = search_.traits();
    traits.gradients = true;
    traits.unmodified = traits.unmodified || lambda_ != 0;
    traits.adapts_to = {"text_encoder", "text_view", "text_margin"};
    return traits;
  }
  Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const override {
    Lanes one({&target});
    return CraftTogether(one, subject, {prompt}).front();
  }
  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept& subject,
                                        const std::vector<Prompt>& prompts) const override {
    VictimText victim(lanes.any());
    if (lambda_ != 0) victim.Move(Gaps(victim, lanes, subject, prompts));
    return search_.Run(kName, lanes, subject, prompts, victim, lambda_);
  }

 private:
  // A row for every sequence of every lane, or undefined.
  at::Tensor Gaps(const VictimText& victim, Lanes& lanes, const Concept& subject,
                  const std::vector<Prompt>& prompts) const {
    std::vector<at::Tensor> gaps(lanes.size());
    bool any = false;
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      if (lanes[lane] == nullptr) continue;
      gaps[lane] = victim.Gap(*lanes[lane], subject, prompts[lane]);
      any = any || gaps[lane].defined();
    }
    return any ? StackLanes(std::move(gaps)).repeat_interleave(search_.restarts, 0) : at::Tensor();
  }

  PezSearch search_;
  double lambda_ = 10;
};

const Registration<Attack, PezAdaptive> registration;

}  // namespace
}  // namespace excise
