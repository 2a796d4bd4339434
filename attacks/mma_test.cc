// The ranking against one-hot gradients, and the search against trying every token.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <set>

#include "attacks/hard_prompt.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Trajectory Craft(const Json& params, TinyTarget* target) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("mma");
  DecodeParams(params, *attack, "test");
  return attack->Craft(*target, TinyConcept(), TinyPrompt());
}

}  // namespace

TEST_CASE("mma: tokens are ranked by the gradient at their one-hot weights") {
  TinyTarget target;
  const ClipModel& clip = target.Surrogate();
  const std::vector<int64_t> usable = UsableTokens(*clip.tokenizer, "all", {});
  const HardPromptScorer scorer(clip, TextTarget(target, TinyPrompt()), usable, 3);
  Philox rng({1, "ids"});
  const at::Tensor ids = scorer.tokens().RandomIds(1, 3, &rng);
  const at::Tensor table =
      ClipTokenEmbeddings(clip.weights, at::tensor(usable, at::kLong).unsqueeze(0))[0].detach();
  std::vector<int64_t> places;
  for (int64_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < usable.size(); ++j) {
      if (usable[j] == ids[0][i].item<int64_t>()) places.push_back(static_cast<int64_t>(j));
    }
  }
  const at::Tensor one_hot =
      at::one_hot(at::tensor(places, at::kLong), static_cast<int64_t>(usable.size()))
          .to(at::kFloat)
          .unsqueeze(0)
          .requires_grad_(true);
  const at::Tensor slope =
      Gradients(scorer.Similarities(at::matmul(one_hot, table)).sum(), {one_hot})[0][0];
  const at::Tensor embeddings = scorer.tokens().Embed(ids).detach().requires_grad_(true);
  const at::Tensor gradient = Gradients(scorer.Similarities(embeddings).sum(), {embeddings})[0][0];
  const at::Tensor ranked = scorer.tokens().Furthest(gradient, 4);
  for (int64_t i = 0; i < 3; ++i) {
    std::multiset<double> all;
    for (size_t j = 0; j < usable.size(); ++j) all.insert(slope[i][j].item<double>());
    auto expected = all.rbegin();
    for (int64_t k = 0; k < 4; ++k, ++expected) {
      const auto at = std::find(usable.begin(), usable.end(), ranked[i][k].item<int64_t>());
      CHECK(slope[i][at - usable.begin()].item<double>() == Approx(*expected).margin(1e-6));
    }
  }
  CHECK(scorer.tokens().Furthest(gradient, 10000).size(1) == static_cast<int64_t>(usable.size()));
}

TEST_CASE("mma: with every token to try, one place gets the best one") {
  TinyTarget target;
  const Trajectory found = Craft({{"prompt_len", 1},
                                  {"iterations", 1},
                                  {"swaps", 4000},
                                  {"top", 10000},
                                  {"tokens", "printable"}},
                                 &target);
  const ClipModel& clip = target.Surrogate();
  const HardPromptScorer scorer(clip, TextTarget(target, TinyPrompt()),
                                UsableTokens(*clip.tokenizer, "printable", {}), 1);
  double best = -2;
  for (const int64_t id : UsableTokens(*clip.tokenizer, "printable", {})) {
    const std::vector<int64_t> read = clip.tokenizer->Encode(clip.tokenizer->Decode({id}));
    if (read.size() != 1) continue;
    const at::Tensor ids = at::tensor(read, at::kLong).unsqueeze(0);
    best = std::max(best, scorer.Similarities(scorer.tokens().Embed(ids)).item<double>());
  }
  REQUIRE(found.size() == 1);
  CHECK(found[0].score == Approx(best).margin(1e-5));
  CHECK(found[0].prompt.round_trip);
}

TEST_CASE("mma: scores are cosines, only rise, and the named words are never used") {
  TinyTarget target;
  const Trajectory found =
      Craft({{"prompt_len", 6}, {"iterations", 12}, {"swaps", 6}, {"top", 8}}, &target);
  REQUIRE(found.size() >= 2);
  const ClipModel& clip = target.Surrogate();
  double last = -2;
  for (const Candidate& candidate : found) {
    CHECK(candidate.score > last);
    last = candidate.score;
    CHECK(candidate.prompt.text.find("poodle") == std::string::npos);
    CHECK(candidate.prompt.text == clip.tokenizer->Decode(candidate.prompt.token_ids));
  }
  const Ledger& ledger = target.ledger();
  CHECK(ledger.gradient_steps == 12);
  CHECK(ledger.candidate_evaluations == 12 * 6);
  CHECK(ledger.victim_queries == 0);

  // The released form is another search.
  TinyTarget other;
  const Trajectory released = Craft(
      {{"prompt_len", 6}, {"iterations", 12}, {"swaps", 6}, {"top", 8}, {"gradients", "released"}},
      &other);
  CHECK(released.back().prompt.text != found.back().prompt.text);
}

}  // namespace excise
