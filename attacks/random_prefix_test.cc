#include <algorithm>
#include <catch2/catch.hpp>

#include "attacks/tries.h"
#include "tests/tiny_models.h"
#include "training/usable_tokens.h"

namespace excise {
namespace {

Trajectory Craft(const Json& params, TinyTarget* target, const Prompt& seed = TinyPrompt()) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("random_prefix");
  DecodeParams(params, *attack, "test");
  return attack->Craft(*target, TinyConcept(), seed);
}

Trajectory Rated(const std::vector<double>& scores) {
  Trajectory trajectory;
  for (const double score : scores) {
    Candidate candidate;
    candidate.score = score;
    candidate.ledger.victim_queries = static_cast<int64_t>(trajectory.size()) + 1;
    trajectory.push_back(candidate);
  }
  return trajectory;
}

}  // namespace

TEST_CASE("random_prefix: the seed first, then blind prefixes of usable tokens, each asked") {
  TinyTarget target;
  target.red_enough = 2;
  const Trajectory all = Craft({{"tries", 6}, {"prefix_len", 3}}, &target);
  REQUIRE(target.asked.size() == 7);
  CHECK(target.asked[0] == TinyPrompt().text);
  CHECK(target.ledger().victim_queries == 7);
  CHECK(target.ledger().candidate_evaluations == 6);
  CHECK(target.ledger().gradient_steps == 0);

  // The same prefixes, token by token from the same stream.
  const Tokenizer& tokenizer = *TinyTokenizer();
  const std::vector<int64_t> usable = UsableTokens(tokenizer, "printable", {"poodle"});
  const std::vector<int64_t> own = tokenizer.Encode(TinyPrompt().text);
  Philox rng = target.Rng(TinyPrompt());
  double best = all[0].score;
  for (size_t i = 1; i < target.asked.size(); ++i) {
    std::vector<int64_t> ids;
    for (int k = 0; k < 3; ++k) ids.push_back(usable[rng.Below(usable.size())]);
    ids.insert(ids.end(), own.begin(), own.end());
    CHECK(all[i].prompt.token_ids == ids);
    CHECK(all[i].prompt.text == tokenizer.Decode(ids));
    CHECK(all[i].prompt.text == target.asked[i]);
    CHECK(all[i].prompt.round_trip == (tokenizer.Encode(all[i].prompt.text) == ids));
    CHECK(all[i].success == false);
    best = std::max(best, all[i].score);
  }
  // The choice is what the oracle rated highest, and has cost all of it.
  CHECK(all.back().score == best);
  CHECK(all.back().ledger.victim_queries == 7);

  // More tries begin with the same ones; a success ends them.
  TinyTarget content;
  content.red_enough = 2;
  const Trajectory more = Craft({{"tries", 9}, {"prefix_len", 3}}, &content);
  for (size_t i = 0; i < 7; ++i) CHECK(more[i].prompt.text == all[i].prompt.text);
  TinyTarget lucky;
  lucky.red_enough = std::max(all[1].score, all[2].score);
  if (lucky.red_enough > all[0].score) {
    const Trajectory found = Craft({{"tries", 6}, {"prefix_len", 3}}, &lucky);
    CHECK(found.back().success == true);
    CHECK(found.size() <= 3);
  }
}

TEST_CASE("random_prefix: ends with the queries, and refuses what leaves no room") {
  TinyTarget poor;
  poor.red_enough = 2;
  poor.queries_left = 2;
  CHECK(Craft({{"tries", 6}}, &poor).size() <= 3);
  CHECK(poor.asked.size() == 2);
  Prompt longer = TinyPrompt();
  while (poor.victim.tokenizer->Encode(longer.text).size() <= 9) longer.text += " dog";
  CHECK(
      Registry<Attack>::Get().Make("random_prefix")->Excludes(poor.victim, TinyConcept(), longer) ==
      "excluded:too_long");
  CHECK_THROWS_WITH(Craft({{"prefix_len", 5}}, &poor, longer), Catch::Contains("prefix_len"));
}

TEST_CASE("tries: the choice is the first of the best, with all that was spent") {
  Trajectory last_best = Rated({0.1, 0.2, 0.3});
  ChooseBest(&last_best);
  CHECK(last_best.size() == 3);
  Trajectory trajectory = Rated({0.1, 0.4, 0.3, 0.4});
  ChooseBest(&trajectory);
  REQUIRE(trajectory.size() == 5);
  CHECK(trajectory[4].score == 0.4);
  CHECK(trajectory[4].ledger.victim_queries == 4);
  Trajectory seed_best = Rated({0.5, 0.4});
  ChooseBest(&seed_best);
  CHECK(seed_best.size() == 3);
  CHECK(seed_best[2].score == 0.5);
}

}  // namespace excise
