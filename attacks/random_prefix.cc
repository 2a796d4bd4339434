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
#include <fmt/format.h>

#include "attacks/hard_prompt.h"
#include "attacks/tries.h"
#include "core/error.h"
#include "core/text.h"

namespace excise {
namespace {

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
  }
  int version() const override { return 1; }
  std::string control_of() const override { return "unlearn_diff_atk"; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"prefix_len", 5}, {"tries", 50}, {"tokens", "all"}}},
            {"smoke", {{"tries", 2}}}};
  }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.unmodified = true;  // for its tokenizer
    traits.queries = tries_ + 1;
    return traits;
  }
  Work work(Acts) const override { return {{Pass::kPicture, static_cast<double>(tries_ + 1), 1}}; }
  std::string Excludes(const Backbone& base, const Concept&, const Prompt& seed) const override {
    return ReasonWithoutRoom(base, seed, prefix_len_);
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    const Backbone& model = target.Unmodified();
    if (!Excludes(model, subject, seed).empty()) {
      throw UsageError(fmt::format(
          "random_prefix: prompt {} leaves no room for {} tokens before it. Lower prefix_len.",
          seed.id, prefix_len_));
    }
    Trajectory trajectory;
    if (Try(target, seed, &trajectory)) return trajectory;
    const Tokenizer& tokenizer = *model.tokenizer;
    const std::vector<int64_t> usable = UsableTokens(tokenizer, tokens_, subject.known);
    const std::vector<int64_t> own = tokenizer.Encode(seed.text);
    Philox rng = target.Rng(seed);
    std::vector<std::string> asked = {seed.text};
    for (int64_t i = 0; i < tries_; ++i) {
      std::vector<int64_t> ids;
      for (int64_t k = 0; k < prefix_len_; ++k) ids.push_back(usable[rng.Below(usable.size())]);
      ids.insert(ids.end(), own.begin(), own.end());
      Prompt drawn =
          PromptOfTokens(seed, "random_prefix", static_cast<int64_t>(trajectory.size()) - 1,
                         tokenizer, std::move(ids));
      ++target.ledger().candidate_evaluations;
      // The same text has the same answer.
      if (IsOneOf(drawn.text, asked)) continue;
      asked.push_back(drawn.text);
      if (Try(target, std::move(drawn), &trajectory)) return trajectory;
    }
    ChooseBest(&trajectory);
    return trajectory;
  }

 private:
  int64_t prefix_len_ = 5, tries_ = 2;
  std::string tokens_ = "printable";
};

const Registration<Attack, RandomPrefix> registration;

}  // namespace
}  // namespace excise
