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

#include "attacks/hard_prompt.h"
#include "attacks/tries.h"

namespace excise {
namespace {

class Shuffle : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("tries", &tries_, "orders drawn, each followed by a question to the oracle",
              {.min = 1, .max = 1000});
    v.Integer("lanes", &lanes_, "prompts attacked together in one pass, as in p4d",
              {.min = 1, .max = 64});
  }
  int version() const override { return 1; }
  std::string control_of() const override { return "p4d"; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"tries", 60}, {"lanes", 1}}}, {"smoke", {{"tries", 2}, {"lanes", 2}}}};
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
    return base.tokenizer->Encode(seed.text).size() < 2 ? "excluded:no_candidate" : "";
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    Lanes one({&target});
    return CraftTogether(one, subject, {seed}).front();
  }

  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept&,
                                        const std::vector<Prompt>& seeds) const override {
    const Tokenizer& tokenizer = *lanes.any().Unmodified().tokenizer;
    LaneSearch search(lanes, seeds);
    search.Try([&](size_t lane, int64_t) { return seeds[lane]; });
    for (int64_t i = 0; i < tries_ && search.Searches(); ++i) {
      search.Try([&](size_t lane, int64_t index) {
        ++lanes[lane]->ledger().candidate_evaluations;
        std::vector<int64_t> ids = tokenizer.Encode(seeds[lane].text);
        // Fisher and Yates: every order is as likely.
        for (size_t left = ids.size(); left > 1; --left) {
          std::swap(ids[left - 1], ids[search.TokenRng(lane)->Below(left)]);
        }
        return PromptOfTokens(seeds[lane], "shuffle", index, tokenizer, std::move(ids));
      });
    }
    return search.Take();
  }

 private:
  int64_t tries_ = 2, lanes_ = 10;
};

const Registration<Attack, Shuffle> registration;

}  // namespace
}  // namespace excise
