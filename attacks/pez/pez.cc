// What: searches tokens whose text embedding is nearest to the prompt's or to pictures
// Paper: Wen, Jain, Kirchenbauer, Goldblum, Geiping, Goldstein, "Hard Prompts Made Easy:
//   Gradient-Based Discrete Optimization for Prompt Tuning and Discovery", NeurIPS 2023, arXiv
//   2302.03668
// Equation: e <- AdamW(e, grad L at P(e)), L = 1 - cos(T(P(e)), f), P: nearest token by cosine, f:
//   one target drawn per step; kept: the prompt of highest mean cosine over all targets
// Reference: YuxinWenRick/hard-prompts-made-easy @ f22a1be, optim_utils.py
// Deviations: restarts are independent (the reference takes a mean over its prompt batch, which
//   AdamW nearly cancels); special tokens and, by default, tokens that are no text alone are left
//   out; one forward pass serves score and gradient
// Needs: a surrogate CLIP with gradients, and with target "image" pictures of the unmodified model;
//   never the victim
// Caveats: defaults are reduced for the emoji backbone; preset "paper": 16 tokens, 3000 steps,
//   pictures as the target; the decoded string is evaluated, which may tokenise differently
//   (round_trip)
#include "attacks/pez/pez_search.h"

namespace excise {
namespace {

constexpr const char* kName = "pez";

class Pez : public Attack {
 public:
  void Fields(ParamVisitor& v) override { search_.Fields(v); }
  int version() const override { return 2; }
  AttackTraits traits() const override { return search_.traits(); }
  std::map<std::string, Json> presets() const override { return PezSearch::Presets(); }
  SearchSpace search_space() const override { return PezSearch::Space(); }
  Work work(Acts) const override { return search_.work(); }
  Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const override {
    Lanes one({&target});
    return CraftTogether(one, subject, {prompt}).front();
  }
  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept& subject,
                                        const std::vector<Prompt>& prompts) const override {
    return search_.Run(kName, lanes, subject, prompts, VictimText(), 0);
  }

 private:
  PezSearch search_;
};

const Registration<Attack, Pez> registration;

}  // namespace
}  // namespace excise
