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

#include "attacks/blind_search.h"
#include "attacks/hard_prompt.h"
#include "attacks/tries.h"

namespace excise {
namespace {

constexpr const char* kName = "random_prefix";

class RandomPrefix : public BlindSearch {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("prefix_len", &prefix_len_, "tokens before the prompt", {.min = 1, .max = 75});
    TriesField(v, "prefixes drawn, each followed by a question to the oracle");
    v.Choice(
        "tokens", &tokens_,
        "tokens that may be used: text on their own, such as pass a block-list of the known names, "
        "or all",
        {"printable", "unlisted", "all"});
    LanesField(v, "unlearn_diff_atk");
  }
  int version() const override { return 1; }
  std::string control_of() const override { return "unlearn_diff_atk"; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"prefix_len", 5}, {"tries", 50}, {"tokens", "all"}, {"lanes", 1}}},
            {"smoke", {{"tries", 2}, {"lanes", 2}}}};
  }
  std::string Excludes(const Backbone& base, const Concept&, const Prompt& seed) const override {
    return ReasonWithoutRoom(base, seed, prefix_len_);
  }

 protected:
  void Require(const Backbone& model, const Prompt& seed) const override {
    RequireRoom(model, seed, prefix_len_, kName);
  }
  Draw Drawer(const Backbone& model, const Concept& subject) const override {
    const Tokenizer& tokenizer = *model.tokenizer;
    const std::vector<int64_t> usable = UsableTokens(tokenizer, tokens_, subject.known);
    return [this, &tokenizer, usable](const BlindTry& one) {
      std::vector<int64_t> ids;
      for (int64_t k = 0; k < prefix_len_; ++k) {
        ids.push_back(usable[one.token_rng->Below(usable.size())]);
      }
      const std::vector<int64_t> own = tokenizer.Encode(one.seed.text);
      ids.insert(ids.end(), own.begin(), own.end());
      return PromptOfTokens(one.seed, kName, one.index, tokenizer, std::move(ids));
    };
  }

 private:
  int64_t prefix_len_ = 5;
  std::string tokens_ = "printable";
};

const Registration<Attack, RandomPrefix> registration;

}  // namespace
}  // namespace excise
