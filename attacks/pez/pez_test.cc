#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cosine_similarity.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "attacks/hard_prompt.h"
#include "core/error.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Trajectory Craft(const Json& params, TinyTarget* target) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("pez");
  DecodeParams(params, *attack, "test");
  return dynamic_cast<const TransferAttack&>(*attack).Craft(*target, TinyConcept(), TinyPrompt());
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
  const Trajectory trajectory = Craft(
      {{"prompt_len", 4}, {"iterations", 30}, {"restarts", 3}, {"reference_images", 2}}, &target);
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
    TinyTarget target(seed);
    pez += Craft({{"prompt_len", 6}, {"iterations", 60}, {"restarts", 1}, {"lr", 0.01}}, &target)
               .back()
               .score;
    CHECK(target.ledger().candidate_evaluations == 60);
    // The same number of uniform sequences, from another stream.
    TinyTarget other(seed + 100);
    const ClipModel& clip = other.Surrogate();
    const HardPromptScorer scorer(clip, ImageTargets(other, TinyPrompt(), 3),
                                  UsableTokens(*clip.tokenizer, "printable", {}), 6);
    Philox rng = other.Rng(TinyPrompt());
    random +=
        scorer.Similarities(scorer.Embed(scorer.RandomIds(60, &rng))).mean(1).max().item<double>();
  }
  CHECK(pez > random);
}

TEST_CASE("pez: text targets need no picture") {
  TinyTarget target;
  Craft({{"prompt_len", 3}, {"iterations", 2}, {"target", "text"}}, &target);
  CHECK(target.ledger().unet_evaluations == 0);
}

TEST_CASE("hard prompts: projection finds a token's own embedding, and the nearest other one") {
  const ClipModel clip = TinyClip();
  const std::vector<int64_t> usable = UsableTokens(*clip.tokenizer, "all", {});
  const HardPromptScorer scorer(clip, at::full({1, 8}, 0.1), usable, 3);
  const at::Tensor ids = at::tensor({usable[0], usable[5], usable[9]}, at::kLong).view({1, 3});
  CHECK(scorer.Nearest(scorer.Embed(ids)).equal(ids));
  CHECK(scorer.Nearest(scorer.Embed(ids).mul(7)).equal(ids));  // by angle, not by length

  // Between two embeddings the angle decides; checked against all tokens one by one.
  const at::Tensor query = scorer.Embed(ids)[0][0].add(scorer.Embed(ids)[0][1]).mul(0.5);
  int64_t best = -1;
  double best_cosine = -2;
  for (const int64_t id : usable) {
    const at::Tensor row = scorer.Embed(at::tensor({id}, at::kLong).view({1, 1}))[0][0];
    const double cosine = at::cosine_similarity(row, query, 0).item<double>();
    if (cosine > best_cosine) best_cosine = cosine, best = id;
  }
  CHECK(scorer.Nearest(query.view({1, 1, -1})).item<int64_t>() == best);
}

TEST_CASE("hard prompts: special tokens are never used, printable ones are text") {
  const std::shared_ptr<const Tokenizer> tokenizer = TinyTokenizer();
  const std::vector<int64_t> all = UsableTokens(*tokenizer, "all", {});
  const std::vector<int64_t> printable = UsableTokens(*tokenizer, "printable", {});
  for (const int64_t special : {tokenizer->bos_id(), tokenizer->eos_id(), tokenizer->pad_id()}) {
    CHECK(std::find(all.begin(), all.end(), special) == all.end());
  }
  CHECK(static_cast<int64_t>(all.size()) == tokenizer->vocab_size() - 2);  // pad is end
  CHECK(printable.size() < all.size());
  for (const int64_t id : printable) {
    CHECK_NOTHROW(Json(tokenizer->Decode({id})).dump());
  }
  const int64_t poodle = tokenizer->Encode("poodle")[0];
  CHECK(std::find(printable.begin(), printable.end(), poodle) != printable.end());

  // What passes a block-list: neither the known name, nor its pieces; other words stay.
  Concept subject = TinyConcept();
  subject.known = {"Poodle"};
  const std::vector<int64_t> unlisted = UsableTokens(*tokenizer, "unlisted", subject);
  CHECK(unlisted.size() < printable.size());
  for (const int64_t id : unlisted) {
    const std::string text = tokenizer->Decode({id});
    CHECK(text.find("poodle") == std::string::npos);
    CHECK((text.size() < 4 || std::string("poodle ").find(text) == std::string::npos));
  }
  const int64_t other = tokenizer->Encode("dog")[0];
  CHECK(std::find(unlisted.begin(), unlisted.end(), other) != unlisted.end());
}

TEST_CASE("pez: a prompt longer than the surrogate's context is refused") {
  TinyTarget target;
  CHECK_THROWS_WITH(Craft({{"prompt_len", 15}, {"iterations", 1}}, &target),
                    Catch::Contains("at most 14"));
}

}  // namespace excise
