#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cosine_similarity.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "attacks/hard_prompt.h"
#include "core/error.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Trajectory Craft(const Json& params, TinyTarget* target) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("pez");
  DecodeParams(params, *attack, "test");
  return attack->Craft(*target, TinyConcept(), TinyPrompt());
}

// Mean cosine of `ids` with the target pictures, the long way: the whole context, with padding.
double FullScore(const ClipModel& clip, const std::vector<int64_t>& ids,
                 const at::Tensor& pictures) {
  std::vector<int64_t> row = {clip.tokenizer->bos_id()};
  row.insert(row.end(), ids.begin(), ids.end());
  row.resize(clip.config.text.max_position_embeddings, clip.tokenizer->eos_id());
  const at::Tensor input = at::tensor(row, at::kLong).unsqueeze(0);
  const at::Tensor text =
      ClipTextEmbeds(clip.weights, ClipTextForward(clip.config.text, clip.weights,
                                                   ClipTokenEmbeddings(clip.weights, input), input)
                                       .pooler_output);
  const at::Tensor image =
      ClipImageEmbeds(clip.weights, ClipVisionForward(clip.config.vision, clip.weights,
                                                      ClipPreprocess(clip.config.vision, pictures))
                                        .pooler_output);
  return at::cosine_similarity(text.expand_as(image), image).mean().item<double>();
}

}  // namespace

TEST_CASE("pez: the kept scores are cosines of the kept tokens, and only rise") {
  TinyTarget target;
  const Trajectory trajectory = Craft({{"prompt_len", 4},
                                       {"iterations", 30},
                                       {"restarts", 3},
                                       {"reference_images", 2},
                                       {"target", "image"}},
                                      &target);
  REQUIRE(trajectory.size() >= 2);
  const ClipModel& clip = target.Surrogate();
  const at::Tensor pictures = TinyImages(2, 5);
  double last = -2;
  for (const Candidate& candidate : trajectory) {
    CHECK(candidate.score > last);
    last = candidate.score;
    REQUIRE(candidate.prompt.token_ids.size() == 4);
    CHECK(candidate.score ==
          Approx(FullScore(clip, candidate.prompt.token_ids, pictures)).margin(1e-5));
    CHECK(candidate.prompt.text == clip.tokenizer->Decode(candidate.prompt.token_ids));
    CHECK(candidate.prompt.round_trip ==
          (clip.tokenizer->Encode(candidate.prompt.text) == candidate.prompt.token_ids));
  }
  CHECK(target.ledger().candidate_evaluations == 30 * 3);
  CHECK(target.ledger().gradient_steps == 30 * 3);
  CHECK(target.ledger().unet_evaluations == 2 * 2);  // the tiny target's two pictures
}

TEST_CASE("pez: gradients beat random tokens at equal budget") {
  double pez = 0, random = 0;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    TinyTarget target(nullptr, seed);
    pez += Craft({{"prompt_len", 6}, {"iterations", 60}, {"restarts", 1}, {"lr", 0.01}}, &target)
               .back()
               .score;
    CHECK(target.ledger().candidate_evaluations == 60);
    // The same number of uniform sequences, from another stream.
    TinyTarget other(nullptr, seed + 100);
    const ClipModel& clip = other.Surrogate();
    const HardPromptScorer scorer(clip, ImageTargets(other, TinyPrompt(), 3),
                                  UsableTokens(*clip.tokenizer, "printable", {}), 6);
    const TokenTable& tokens = scorer.tokens();
    Philox rng = other.Rng(TinyPrompt());
    random += scorer.Similarities(tokens.Embed(tokens.RandomIds(60, 6, &rng)))
                  .mean(1)
                  .max()
                  .item<double>();
  }
  CHECK(pez > random);
}

TEST_CASE("pez: text targets need no picture") {
  TinyTarget target;
  Craft({{"prompt_len", 3}, {"iterations", 2}, {"target", "text"}}, &target);
  CHECK(target.ledger().unet_evaluations == 0);
}

TEST_CASE("pez: a prompt longer than the surrogate's context is refused") {
  TinyTarget target;
  CHECK_THROWS_WITH(Craft({{"prompt_len", 15}, {"iterations", 1}}, &target),
                    Catch::Contains("at most 14"));
}

}  // namespace excise
