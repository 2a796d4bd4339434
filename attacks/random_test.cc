#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "attacks/hard_prompt.h"
#include "tests/tiny_models.h"

namespace excise {

TEST_CASE("random: the best of exactly as many sequences as were paid for") {
  const std::unique_ptr<Attack> made = Registry<Attack>::Get().Make("random");
  DecodeParams(
      {{"prompt_len", 4}, {"evaluations", 37}, {"reference_images", 2}, {"target", "image"}}, *made,
      "test");
  const Attack& attack = *made;
  TinyTarget target;
  const Trajectory trajectory = attack.Craft(target, TinyConcept(), TinyPrompt());
  CHECK(target.ledger().candidate_evaluations == 37);
  CHECK(target.ledger().gradient_steps == 0);
  CHECK(target.ledger().victim_queries == 0);

  // The same 37 sequences, one by one.
  TinyTarget again;
  const ClipModel& clip = again.Surrogate();
  const HardPromptScorer scorer(clip, ImageTargets(again, TinyPrompt(), 2),
                                UsableTokens(*clip.tokenizer, "printable", {}), 4);
  Philox rng = again.Rng(TinyPrompt());
  double best = -2;
  for (int i = 0; i < 37; ++i) {
    const at::Tensor ids = scorer.tokens().RandomIds(1, 4, &rng);
    const double score = scorer.Similarities(scorer.tokens().Embed(ids)).mean().item<double>();
    if (score > best) best = score;
  }
  REQUIRE(!trajectory.empty());
  CHECK(trajectory.back().score == Approx(best).margin(1e-5));
  for (const Candidate& candidate : trajectory) {
    CHECK(candidate.prompt.token_ids.size() == 4);
    CHECK(candidate.prompt.root_id == TinyPrompt().id);
  }
}

TEST_CASE("random: its default budget is pez's") {
  const std::unique_ptr<Attack> random = Registry<Attack>::Get().Make("random");
  const Json params = EncodeParams(*random);
  // pez: 100 iterations of 2 restarts (attacks/pez/pez.cc). Tables pair the two, so what tuning
  // chose for pez holds for its control, which is not tuned by itself.
  CHECK(params["evaluations"] == 200);
  CHECK(params["prompt_len"] == 4);
  CHECK(params["target"] == "text");
  CHECK(random->search_space().empty());
}

}  // namespace excise
