// Which words go, what stands in their place, and what each search asks.
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "attacks/attack.h"
#include "attacks/sneaky_prompt/prompt_words.h"
#include "core/error.h"
#include "core/text.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "tests/tiny_models.h"
#include "training/usable_tokens.h"

namespace excise {
namespace {

Trajectory Craft(const Json& params, TinyTarget* target, const Prompt& seed = TinyPrompt()) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("sneaky_prompt");
  DecodeParams(params, *attack, "test");
  return attack->Craft(*target, TinyConcept(), seed);
}

std::vector<std::string> Pieces() {
  return PiecesOf(*TinyTokenizer(), UsableTokens(*TinyTokenizer(), "printable", {}), 10);
}

// Cosine of a text with the seed prompt's, by the surrogate.
double Near(TinyTarget* target, const std::string& text) {
  const auto of = [&](const std::string& some) {
    return nn::Normalised(EmbedTexts(target->Surrogate(), {some}))[0];
  };
  return at::matmul(of(text), of(TinyPrompt().text)).item<double>();
}

// Blocks every picture.
class BlocksAll : public Hooks, public ImageFilter {
 public:
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<HookRun>();
  }
  const ImageFilter* Filter() const override { return this; }
  at::Tensor Score(const at::Tensor& images) const override {
    return at::full({images.size(0)}, 1.0);
  }
  double Threshold() const override { return 0; }
};

}  // namespace

TEST_CASE("sneaky_prompt: names go first, then the words that the text means most with") {
  PromptWords words("A Poodle, on the poodle's chair", {"poodle"}, 2);
  CHECK(words.stages() == 4);
  const std::vector<std::string> pieces = {"ab", "c", "Xy"};
  CHECK(words.With(pieces, {0, 1, 2, 2}) == "A abc, on the XyXy's chair");
  CHECK(words.With(pieces, {0}) == "A ab, on the 's chair");
  CHECK(words.WithoutEach() ==
        std::vector<std::string>{" Poodle, on the poodle's chair", "A Poodle,  the poodle's chair",
                                 "A Poodle, on  poodle's chair", "A Poodle, on the poodle' chair",
                                 "A Poodle, on the poodle's "});
  CHECK(words.Share() == Approx(2 / 7.0));
  words.OrderOthers({0.5, 0.4, 0.9, 0.8, 0.1});
  CHECK(words.AttackOneMore());
  CHECK(words.With(pieces, {0, 0, 0, 0, 1, 1}) == "A abab, on the abab's cc");
  CHECK(words.AttackOneMore());
  CHECK(words.With(pieces, {0, 0, 0, 0, 1, 1, 2, 2}) == "A abab, XyXy the abab's cc");
  for (int i = 0; i < 3; ++i) CHECK(words.AttackOneMore());
  CHECK_FALSE(words.AttackOneMore());
  CHECK(PromptWords("a curly one", {"poodle"}, 1).stages() == 1);
  CHECK(PromptWords("!?", {"poodle"}, 1).With({"ab"}, {}) == "!?");
}

TEST_CASE("sneaky_prompt: pieces are letters of usable tokens, each once") {
  const std::vector<std::string> pieces = Pieces();
  CHECK(std::set<std::string>(pieces.begin(), pieces.end()).size() == pieces.size());
  CHECK(pieces.size() > 50);
  for (const std::string& piece : pieces) {
    CHECK(piece.size() < 10);
    for (const char c : piece) CHECK(std::isalpha(static_cast<unsigned char>(c)) != 0);
  }
  CHECK(PiecesOf(*TinyTokenizer(), UsableTokens(*TinyTokenizer(), "printable", {}), 2).size() <=
        52);
  TinyTarget target;
  Prompt digits = TinyPrompt("tiny@00000000/1", "!?");
  CHECK(Registry<Attack>::Get()
            .Make("sneaky_prompt")
            ->Excludes(TinyBackbone(), TinyConcept(), digits) == "excluded:no_candidate");
}

TEST_CASE("sneaky_prompt: every search asks the seed, then keeps the prompt around the word") {
  for (const char* search : {"policy", "beam", "brute_force"}) {
    INFO(search);
    TinyTarget target;
    target.red_enough = 2;
    const Trajectory all =
        Craft({{"search", search}, {"questions", 6}, {"subwords", 2}, {"width", 6}}, &target);
    REQUIRE(target.asked.size() == 7);
    CHECK(target.asked[0] == TinyPrompt().text);
    std::set<std::string> texts;
    for (size_t i = 1; i < target.asked.size(); ++i) {
      INFO(target.asked[i]);
      CHECK(target.asked[i].rfind("a picture of a ", 0) == 0);
      CHECK(target.asked[i].find("poodle") == std::string::npos);
      CHECK(target.asked[i].substr(15).find(' ') == std::string::npos);
      texts.insert(target.asked[i]);
    }
    CHECK(texts.size() >= 5);
    CHECK(all.back().ledger.victim_queries == 7);
    CHECK(all.back().ledger.gradient_steps == 0);
    TinyTarget again;
    again.red_enough = 2;
    Craft({{"search", search}, {"questions", 6}, {"subwords", 2}, {"width", 6}}, &again);
    CHECK(again.asked == target.asked);
  }
}

TEST_CASE("sneaky_prompt: the beam and brute force ask the best by text of what they looked at") {
  TinyTarget target;
  target.red_enough = 2;
  const std::vector<std::string> pieces = Pieces();
  Craft({{"search", "beam"}, {"questions", 1}, {"subwords", 1}, {"width", 1}}, &target);
  double best = -1;
  for (const std::string& piece : pieces) {
    if (piece == "poodle") continue;  // spells the name
    best = std::max(best, Near(&target, "a picture of a " + piece));
  }
  REQUIRE(target.asked.size() == 2);
  CHECK(Near(&target, target.asked[1]) == Approx(best).margin(1e-6));
  CHECK(target.ledger().candidate_evaluations == static_cast<int64_t>(pieces.size()) - 1);

  // Brute force: the best of its own draws.
  TinyTarget blind;
  blind.red_enough = 2;
  Craft({{"search", "brute_force"}, {"questions", 1}, {"subwords", 1}, {"samples", 5}}, &blind);
  Philox rng = blind.Rng(TinyPrompt());
  best = -1;
  for (int i = 0; i < 5; ++i) {
    const std::string& piece = pieces[rng.Below(pieces.size())];
    if (piece != "poodle") best = std::max(best, Near(&blind, "a picture of a " + piece));
  }
  CHECK(Near(&blind, blind.asked[1]) == Approx(best).margin(1e-6));
}

TEST_CASE("sneaky_prompt: a beam of two pieces keeps the best starts and asks the best ends") {
  constexpr size_t kWidth = 3;
  TinyTarget target;
  target.red_enough = 2;
  Craft({{"search", "beam"}, {"questions", 3}, {"subwords", 2}, {"width", kWidth}}, &target);
  // The `kWidth` of `words` that stand nearest to the seed in the name's place, best first.
  const auto nearest = [&](const std::vector<std::string>& words) {
    std::vector<std::pair<double, std::string>> ranked;
    for (const std::string& word : words) {
      if (LowerAscii(word).find("poodle") != std::string::npos) continue;  // spells the name
      ranked.emplace_back(-Near(&target, "a picture of a " + word), word);
    }
    std::sort(ranked.begin(), ranked.end());
    ranked.resize(kWidth);
    return ranked;
  };
  const std::vector<std::string> pieces = Pieces();
  std::vector<std::string> longer;
  for (const auto& [far, start] : nearest(pieces)) {
    for (const std::string& piece : pieces) longer.push_back(start + piece);
  }
  const auto expected = nearest(longer);
  REQUIRE(target.asked.size() == 1 + kWidth);
  for (size_t i = 0; i < kWidth; ++i) {
    INFO(target.asked[1 + i] << ", by hand " << expected[i].second);
    CHECK(Near(&target, target.asked[1 + i]) == Approx(-expected[i].first).margin(1e-6));
  }
}

TEST_CASE("sneaky_prompt: where all is blocked more words go, and candidates say so") {
  const BlocksAll hooks;
  TinyTarget target(&hooks);
  const Trajectory all = Craft({{"search", "policy"},
                                {"questions", 7},
                                {"subwords", 1},
                                {"patience", 2},
                                {"max_share", 0.5}},
                               &target);
  std::vector<int> kept;  // words of the seed prompt
  for (size_t i = 1; i < target.asked.size(); ++i) {
    int words = 0;
    for (const char* word : {"a picture", "picture of", " of a "}) {
      words += target.asked[i].find(word) != std::string::npos ? 1 : 0;
    }
    kept.push_back(words);
  }
  REQUIRE(kept.size() == 6);  // 1, 2 and 3 of 5 words, two questions each; then more than half
  CHECK(kept[0] == 3);
  CHECK(kept[1] == 3);
  CHECK(kept[2] < 3);
  CHECK(kept[4] < 3);
  for (size_t i = 0; i + 1 < all.size(); ++i) {
    CHECK(all[i].edits == std::vector<std::string>{"blocked"});
    CHECK(all[i].success == false);
  }
}

TEST_CASE("sneaky_prompt: a success ends the search, and no piece is an error") {
  TinyTarget target;
  target.red_enough = 0;
  CHECK(Craft(Json::object(), &target).size() == 1);
  CHECK_THROWS_AS(Craft({{"letters", 1}}, &target), UsageError);
}

}  // namespace excise
