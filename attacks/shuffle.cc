// What: the prompt's own tokens in another order, each order asked of the oracle: a control of p4d
// Paper: control "Shuffling" of Chin et al., "Prompting4Debugging", ICML 2024, arXiv 2309.06135
// Equation: p' = argmax over p and `tries` random orders of its tokens, of the oracle's P(concept)
// Reference: none
// Deviations: the paper takes the first order; as many tries as p4d has is what this control is for
// Needs: answers of the oracle, the first one for the seed prompt itself; the backbone's tokenizer;
//   no gradient
// Caveats: keep tries equal to p4d's questions (iterations / eval_every); best of `tries` + 1 on
//   the searched noise
#include <utility>

#include "attacks/blind_search.h"
#include "attacks/hard_prompt.h"

namespace excise {
namespace {

class Shuffle : public BlindSearch {
 public:
  void Fields(ParamVisitor& v) override {
    TriesField(v, "orders drawn, each followed by a question to the oracle");
    LanesField(v, "p4d");
  }
  int version() const override { return 1; }
  std::string control_of() const override { return "p4d"; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"tries", 60}, {"lanes", 1}}}, {"smoke", {{"tries", 2}, {"lanes", 2}}}};
  }
  std::string Excludes(const Backbone& base, const Concept&, const Prompt& seed) const override {
    return base.tokenizer->Encode(seed.text).size() < 2 ? "excluded:no_candidate" : "";
  }

 protected:
  Draw Drawer(const Backbone& model, const Concept&) const override {
    const Tokenizer& tokenizer = *model.tokenizer;
    return [&tokenizer](const BlindTry& one) {
      std::vector<int64_t> ids = tokenizer.Encode(one.seed.text);
      // Fisher and Yates: every order is as likely.
      for (size_t left = ids.size(); left > 1; --left) {
        std::swap(ids[left - 1], ids[one.token_rng->Below(left)]);
      }
      return PromptOfTokens(one.seed, "shuffle", one.index, tokenizer, std::move(ids));
    };
  }
};

const Registration<Attack, Shuffle> registration;

}  // namespace
}  // namespace excise
