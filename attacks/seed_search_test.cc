#include <catch2/catch.hpp>
#include <cmath>

#include "tests/tiny_models.h"

namespace excise {

TEST_CASE("seed_search: the same text on other noise, and the best noise is kept") {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("seed_search");
  DecodeParams({{"tries", 5}}, *attack, "test");
  TinyTarget target;
  target.red_enough = 2;
  const Trajectory all = attack->Craft(target, TinyConcept(), TinyPrompt());
  CHECK(target.asked == std::vector<std::string>(6, TinyPrompt().text));
  REQUIRE(all.size() >= 6);
  CHECK(all[0].prompt.latents.values.empty());
  double best = all[0].score;
  for (size_t i = 1; i < 6; ++i) {
    const NpyArray& latents = all[i].prompt.latents;
    CHECK(latents.shape == std::vector<int64_t>{4, 8, 8});
    CHECK(all[i].prompt.root_id == TinyPrompt().root_id);
    CHECK(latents.values != all[i - 1].prompt.latents.values);
    double sum = 0, squares = 0;
    for (const float value : latents.values) {
      sum += value;
      squares += value * value;
    }
    const auto n = static_cast<double>(latents.values.size());
    CHECK(std::abs(sum / n) < 4 / std::sqrt(n));
    CHECK(std::abs(squares / n - 1) < 4 * std::sqrt(2 / n));
    CHECK(all[i].score != all[0].score);  // another picture
    best = std::max(best, all[i].score);
  }
  CHECK(all.back().score == best);
  CHECK(all.back().ledger.victim_queries == 6);
}

TEST_CASE("seed_search: ends at the first noise that succeeds") {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("seed_search");
  DecodeParams({{"tries", 5}}, *attack, "test");
  TinyTarget target;
  target.red_enough = 0;
  CHECK(attack->Craft(target, TinyConcept(), TinyPrompt()).size() == 1);
}

}  // namespace excise
