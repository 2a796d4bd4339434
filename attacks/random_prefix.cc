// What: blind prefixes before the prompt, each asked of the oracle: the control of unlearn_diff_atk
// Paper: control as "Random-K" in Chin et al., "Prompting4Debugging", ICML 2024, arXiv 2309.06135,
//   with the prefix and the tries of UnlearnDiffAtk (Zhang et al., ECCV 2024, arXiv 2310.11868)
// Equation: p' = argmax over p and N prompts [q; p], q uniform in V^k, of the oracle's P(concept)
// Reference: none
// Deviations: Random-K inserts its tokens into the prompt and takes the first draw; before the
//   prompt, and as many tries as unlearn_diff_atk has, is what this control is for
// Needs: answers of the oracle, the first one for the seed prompt itself; the backbone's tokenizer;
//   no gradient
// Caveats: keep prefix_len, tokens and tries (= timesteps) equal to unlearn_diff_atk's; best of
//   `tries` + 1 on the searched noise
#include <ATen/core/Tensor.h>

#include "attacks/hard_prompt.h"
#include "attacks/tries.h"

namespace excise {
namespace {

constexpr const char* kName = "random_prefix";

class RandomPrefix : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("prefix_len", &prefix_len_, "tokens before the prompt", {.min = 1, .max = 75});
    v.Integer("tries", &tries_, "prefixes drawn, each followed by a question to the oracle",
              {.min = 1, .max = 1000});
    v.Choice(
        "tokens", &tokens_,
        "tokens that may be used: text on their own, such as pass a block-list of the known names, "
        "or all",
        {"printable", "unlisted", "all"});
    v.Integer("lanes", &lanes_, "prompts attacked together in one pass, as in unlearn_diff_atk",
              {.min = 1, .max = 64});
  }
  int version() const override { return 1; }
  std::string control_of() const override { return "unlearn_diff_atk"; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"prefix_len", 5}, {"tries", 50}, {"tokens", "all"}, {"lanes", 1}}},
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
    return ReasonWithoutRoom(base, seed, prefix_len_);
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    Lanes one({&target});
    return CraftTogether(one, subject, {seed}).front();
  }

  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept& subject,
                                        const std::vector<Prompt>& seeds) const override {
    RequireRoom(lanes, seeds, prefix_len_, kName);
    const Tokenizer& tokenizer = *lanes.any().Unmodified().tokenizer;
    const std::vector<int64_t> usable = UsableTokens(tokenizer, tokens_, subject.known);
    LaneTries tries(lanes);
    std::vector<Philox> rng;
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      rng.push_back((lanes[lane] == nullptr ? lanes.any() : *lanes[lane]).Rng(seeds[lane]));
    }
    tries.Try([&](size_t lane, int64_t) { return seeds[lane]; });
    for (int64_t i = 0; i < tries_ && tries.Searches(); ++i) {
      tries.Try([&](size_t lane, int64_t index) {
        ++lanes[lane]->ledger().candidate_evaluations;
        std::vector<int64_t> ids;
        for (int64_t k = 0; k < prefix_len_; ++k) {
          ids.push_back(usable[rng[lane].Below(usable.size())]);
        }
        const std::vector<int64_t> own = tokenizer.Encode(seeds[lane].text);
        ids.insert(ids.end(), own.begin(), own.end());
        return PromptOfTokens(seeds[lane], kName, index, tokenizer, std::move(ids));
      });
    }
    return tries.Take();
  }

 private:
  int64_t prefix_len_ = 5, tries_ = 2, lanes_ = 10;
  std::string tokens_ = "printable";
};

const Registration<Attack, RandomPrefix> registration;

}  // namespace
}  // namespace excise
