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

#include "attacks/hard_prompt.h"
#include "attacks/token_places.h"
#include "attacks/tries.h"

namespace excise {
namespace {

constexpr const char* kName = "random_tokens";

class RandomTokens : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("form", &form_.form,
             "n: `prompt_len` tokens instead of the prompt; k: one before every `every` of its own",
             {"n", "k"});
    v.Integer("prompt_len", &form_.length, "tokens of form n (N)", {.min = 1, .max = 75});
    v.Integer("every", &form_.every, "tokens of the prompt behind an inserted one, in form k (K)",
              {.min = 1, .max = 75});
    v.Integer("tries", &tries_, "prompts drawn, each followed by a question to the oracle",
              {.min = 1, .max = 1000});
    v.Choice(
        "tokens", &tokens_,
        "tokens that may be used: text on their own, such as pass a block-list of the known names, "
        "or all",
        {"printable", "unlisted", "all"});
    v.Integer("lanes", &lanes_, "prompts attacked together in one pass, as in p4d",
              {.min = 1, .max = 64});
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
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.unmodified = true;  // for its tokenizer
    traits.queries = tries_ + 1;
    traits.lanes = lanes_;
    return traits;
  }
  Work work(Acts) const override { return {{Pass::kPicture, static_cast<double>(tries_ + 1), 1}}; }
  std::string Excludes(const Backbone& base, const Concept&, const Prompt& seed) const override {
    return form_.ReasonWithoutRoom(base, seed.text);
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    Lanes one({&target});
    return CraftTogether(one, subject, {seed}).front();
  }

  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept& subject,
                                        const std::vector<Prompt>& seeds) const override {
    const Backbone& model = lanes.any().Unmodified();
    const std::vector<int64_t> usable = UsableTokens(*model.tokenizer, tokens_, subject.known);
    LaneSearch search(lanes, seeds);
    search.ForEach([&](size_t lane) { form_.RequireRoom(model, seeds[lane].text, kName); });
    search.Try([&](size_t lane, int64_t) { return seeds[lane]; });
    for (int64_t i = 0; i < tries_ && search.Searches(); ++i) {
      search.Try([&](size_t lane, int64_t index) {
        ++lanes[lane]->ledger().candidate_evaluations;
        const TokenPlaces sequence = form_.Of(*model.tokenizer, seeds[lane].text);
        std::vector<int64_t> chosen(sequence.places.size());
        for (int64_t& id : chosen) id = usable[search.TokenRng(lane)->Below(usable.size())];
        return PromptOfTokens(seeds[lane], kName, index, *model.tokenizer, sequence.With(chosen));
      });
    }
    return search.Take();
  }

 private:
  TokenForm form_;
  int64_t tries_ = 2, lanes_ = 10;
  std::string tokens_ = "printable";
};

const Registration<Attack, RandomTokens> registration;

}  // namespace
}  // namespace excise
