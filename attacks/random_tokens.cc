// What: blind tokens instead of the prompt or between its own: the control of p4d
// Paper: controls "Random-N" and "Random-K" of Chin et al., "Prompting4Debugging", ICML 2024, arXiv
//   2309.06135
// Equation: p' = argmax over p and `tries` prompts, uniform in V at p4d's places, of the oracle's
//   P(concept)
// Reference: none
// Deviations: the paper takes the first draw; as many tries as p4d has is what this control is for
// Needs: answers of the oracle, the first one for the seed prompt itself; the backbone's tokenizer;
//   no gradient
// Caveats: keep form, prompt_len, every, tokens and tries (= questions of p4d) equal to p4d's; best
//   of `tries` + 1 on the searched noise
#include <ATen/core/Tensor.h>

#include "attacks/blind_search.h"
#include "attacks/hard_prompt.h"
#include "attacks/token_places.h"

namespace excise {
namespace {

constexpr const char* kName = "random_tokens";

class RandomTokens : public BlindSearch {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("form", &form_.form,
             "n: `prompt_len` tokens instead of the prompt; k: one before every `every` of its own",
             {"n", "k"});
    v.Integer("prompt_len", &form_.length, "tokens of form n (N)", {.min = 1, .max = 75});
    v.Integer("every", &form_.every, "tokens of the prompt behind an inserted one, in form k (K)",
              {.min = 1, .max = 75});
    TriesField(v, "prompts drawn, each followed by a question to the oracle");
    v.Choice(
        "tokens", &tokens_,
        "tokens that may be used: text on their own, such as pass a block-list of the known names, "
        "or all",
        {"printable", "unlisted", "all"});
    LanesField(v, "p4d");
  }
  int version() const override { return 1; }
  std::string control_of() const override { return "p4d"; }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"form", "n"},
              {"prompt_len", 16},
              {"every", 3},
              {"tries", 60},
              {"tokens", "all"},
              {"lanes", 1}}},
            {"smoke", {{"tries", 2}, {"lanes", 2}}}};
  }
  std::string Excludes(const Backbone& base, const Concept&, const Prompt& seed) const override {
    return form_.ReasonWithoutRoom(base, seed.text);
  }

 protected:
  void Require(const Backbone& model, const Prompt& seed) const override {
    form_.RequireRoom(model, seed.text, kName);
  }
  Draw Drawer(const Backbone& model, const Concept& subject) const override {
    const Tokenizer& tokenizer = *model.tokenizer;
    const std::vector<int64_t> usable = UsableTokens(tokenizer, tokens_, subject.known);
    return [this, &tokenizer, usable](const BlindTry& one) {
      const TokenPlaces sequence = form_.Of(tokenizer, one.seed.text);
      std::vector<int64_t> chosen(sequence.places.size());
      for (int64_t& id : chosen) id = usable[one.token_rng->Below(usable.size())];
      return PromptOfTokens(one.seed, kName, one.index, tokenizer, sequence.With(chosen));
    };
  }

 private:
  TokenForm form_;
  std::string tokens_ = "printable";
};

const Registration<Attack, RandomTokens> registration;

}  // namespace
}  // namespace excise
