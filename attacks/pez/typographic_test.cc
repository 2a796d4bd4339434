// That the search aims at the lettered pictures and is pez's search else; the letters themselves
// have lettering_test.cc.
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "attacks/hard_prompt.h"
#include "attacks/pez/lettering.h"
#include "attacks/pez/pez_search.h"
#include "core/error.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

const Json kSearch = {{"prompt_len", 4}, {"iterations", 20}, {"restarts", 2}, {"lr", 0.1}};

Trajectory Craft(Json params, TinyTarget* target, const Concept& subject = TinyConcept()) {
  params.update(kSearch);
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("typographic");
  DecodeParams(params, *attack, "test");
  return attack->Craft(*target, subject, TinyPrompt());
}

bool Same(const Trajectory& a, const Trajectory& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].prompt.token_ids != b[i].prompt.token_ids || a[i].score != b[i].score) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("typographic: a score is the mean cosine with the lettered pictures") {
  TinyTarget target;
  const Trajectory found = Craft({{"reference_images", 2}, {"opacity", 0.7}}, &target);
  const NoGrad no_grad;
  const ClipModel& clip = target.Surrogate();
  Lettering how;
  how.opacity = 0.7;
  const at::Tensor pictures = Lettered(TinyImages(2, 5), TinyConcept().anchor, how);
  const at::Tensor features = nn::Normalised(EmbedPictures(clip, pictures));
  // pez_test.cc has the scorer by hand.
  const HardPromptScorer scorer(clip, features, UsableTokens(*clip.tokenizer, "all", {}), 4);
  REQUIRE(found.size() >= 2);
  for (const Candidate& candidate : found) {
    const at::Tensor ids = at::tensor(candidate.prompt.token_ids, at::kLong).unsqueeze(0);
    const at::Tensor cosines = scorer.Similarities(scorer.tokens().Embed(ids));
    CHECK(candidate.score == Approx(cosines.mean().item<double>()).margin(1e-5));
  }
}

TEST_CASE("typographic: it spends what pez spends, repeats itself, and heeds the word") {
  TinyTarget target, again, other, same, plain;
  const Trajectory anchor = Craft({}, &target);
  CHECK(Same(anchor, Craft({}, &again)));
  CHECK(Same(anchor, Craft({{"word", "dog"}}, &same)));
  CHECK_FALSE(Same(anchor, Craft({{"word", "cat"}}, &other)));
  PezSearch search;
  search.target_kind = "image";
  search.prompt_len = 4, search.iterations = 20, search.restarts = 2, search.lr = 0.1;
  Lanes one({&plain});
  CHECK_FALSE(
      Same(anchor, search.Run("pez", one, TinyConcept(), {TinyPrompt()}, VictimText(), 0).front()));
  CHECK(target.ledger().candidate_evaluations == 20 * 2);
  CHECK(target.ledger().candidate_evaluations == plain.ledger().candidate_evaluations);
  CHECK(target.ledger().gradient_steps == plain.ledger().gradient_steps);
  CHECK(target.ledger().text_evaluations == plain.ledger().text_evaluations);
  CHECK(target.ledger().unet_evaluations == plain.ledger().unet_evaluations);
}

TEST_CASE("typographic: what cannot be written is refused") {
  TinyTarget target;
  Concept without = TinyConcept();
  without.anchor = "";
  CHECK_THROWS_WITH(Craft({}, &target, without),
                    Catch::Contains("'poodle' has no anchor") && Catch::Contains("word"));
  CHECK_NOTHROW(Craft({{"word", "dog"}}, &target, without));
  CHECK_THROWS_WITH(Craft({{"word", " "}}, &target), Catch::Contains("nothing to draw"));
  CHECK_THROWS_WITH(Craft({{"word", "\u05d0"}}, &target), Catch::Contains("no glyph"));
  CHECK_THROWS_AS(Craft({{"target", "text"}}, &target), UsageError);
}

}  // namespace excise
