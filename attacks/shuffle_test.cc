#include <catch2/catch.hpp>
#include <map>
#include <set>

#include "tests/tiny_models.h"

namespace excise {
namespace {

Trajectory Craft(const Json& params, TinyTarget* target, const Prompt& seed) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("shuffle");
  DecodeParams(params, *attack, "test");
  return attack->Craft(*target, TinyConcept(), seed);
}

}  // namespace

TEST_CASE("shuffle: the seed first, then orders of its tokens, each asked") {
  TinyTarget target;
  target.red_enough = 2;
  const Trajectory all = Craft({{"tries", 12}}, &target, TinyPrompt());
  const std::vector<int64_t> own = TinyTokenizer()->Encode(TinyPrompt().text);
  CHECK(target.asked[0] == TinyPrompt().text);
  CHECK(target.ledger().candidate_evaluations == 12);
  CHECK(target.ledger().victim_queries == static_cast<int64_t>(target.asked.size()));
  for (const Candidate& candidate : all) {
    if (candidate.prompt.token_ids.empty()) continue;  // the seed
    CHECK(std::multiset<int64_t>(candidate.prompt.token_ids.begin(),
                                 candidate.prompt.token_ids.end()) ==
          std::multiset<int64_t>(own.begin(), own.end()));
  }
  CHECK(target.asked.size() > 6);
}

TEST_CASE("shuffle: every order of three tokens is as likely") {
  const Prompt seed = TinyPrompt("tiny@00000000/0", "dog cat poodle");
  REQUIRE(TinyTokenizer()->Encode(seed.text).size() == 3);
  std::map<std::string, int> firsts;
  constexpr int kSeeds = 600;
  for (int i = 0; i < kSeeds; ++i) {
    Prompt one = seed;
    one.root_id = "tiny@00000000/" + std::to_string(i);
    TinyTarget target;
    target.red_enough = 2;
    target.queries_left = 2;
    Craft({{"tries", 1}}, &target, one);
    ++firsts[target.asked.back()];  // the seed itself where that is the order, for it was asked
  }
  CHECK(firsts.size() == 6);
  // Five deviations of a binomial share of 1/6: 9.1 of 600.
  for (const auto& [order, count] : firsts) CHECK(std::abs(count - kSeeds / 6) < 46);
}

TEST_CASE("shuffle: a prompt of one token is left out") {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("shuffle");
  CHECK(attack->Excludes(TinyBackbone(), TinyConcept(), TinyPrompt("tiny@00000000/0", "dog")) ==
        "excluded:no_candidate");
  CHECK(attack->Excludes(TinyBackbone(), TinyConcept(), TinyPrompt()).empty());
}

}  // namespace excise
