#include <catch2/catch.hpp>

#include "attacks/token_places.h"
#include "core/error.h"
#include "tests/tiny_models.h"
#include "training/usable_tokens.h"

namespace excise {
namespace {

Trajectory Craft(const Json& params, TinyTarget* target) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("random_tokens");
  DecodeParams(params, *attack, "test");
  return attack->Craft(*target, TinyConcept(), TinyPrompt());
}

}  // namespace

TEST_CASE("token places: all of a prompt, or one before every few of its own") {
  const auto tokenizer = TinyTokenizer();
  const std::vector<int64_t> own = tokenizer->Encode("a picture of a poodle");
  const TokenPlaces instead = TokenForm{"n", 3, 1}.Of(*tokenizer, "a picture of a poodle");
  CHECK(instead.With({7, 8, 9}) == std::vector<int64_t>{7, 8, 9});
  const TokenPlaces between = TokenForm{"k", 3, 2}.Of(*tokenizer, "a picture of a poodle");
  CHECK(between.With({7, 8, 9}) ==
        std::vector<int64_t>{7, own[0], own[1], 8, own[2], own[3], 9, own[4]});
  // Behind the last one where the prompt ends there.
  CHECK(TokenForm{"k", 3, 5}.Of(*tokenizer, "a picture of a poodle").places ==
        std::vector<int64_t>{0, 6});
  CHECK_THROWS_AS(TokenForm({"n", 15, 1}).RequireRoom(TinyBackbone(), "a", "x"), UsageError);
}

TEST_CASE("random_tokens: the seed first, then blind tokens at p4d's places, each asked") {
  for (const char* form : {"n", "k"}) {
    TinyTarget target;
    target.red_enough = 2;
    const Trajectory all =
        Craft({{"form", form}, {"tries", 6}, {"prompt_len", 4}, {"every", 2}}, &target);
    CHECK(target.asked[0] == TinyPrompt().text);
    CHECK(target.ledger().victim_queries == static_cast<int64_t>(target.asked.size()));
    CHECK(target.ledger().candidate_evaluations == 6);
    CHECK(target.ledger().gradient_steps == 0);
    const Tokenizer& tokenizer = *TinyTokenizer();
    const std::vector<int64_t> usable = UsableTokens(tokenizer, "printable", {"poodle"});
    const TokenPlaces sequence = TokenForm{form, 4, 2}.Of(tokenizer, TinyPrompt().text);
    Philox rng = target.Rng(TinyPrompt(), 0);
    std::vector<std::string> texts = {TinyPrompt().text};
    for (int i = 0; i < 6; ++i) {
      std::vector<int64_t> chosen(sequence.places.size());
      for (int64_t& id : chosen) id = usable[rng.Below(usable.size())];
      const std::string text = tokenizer.Decode(sequence.With(chosen));
      if (std::find(texts.begin(), texts.end(), text) == texts.end()) texts.push_back(text);
    }
    CHECK(target.asked == texts);
    CHECK(all.back().ledger.victim_queries == static_cast<int64_t>(texts.size()));
  }
}

}  // namespace excise
