#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>

#include <catch2/catch.hpp>

#include "methods/method.h"
#include "tests/tiny_models.h"

namespace excise {

TEST_CASE("negative_prompt: the empty stream reads the names of all concepts") {
  const Backbone base = TinyBackbone();
  Concept first = TinyConcept(), second = TinyConcept();
  first.known = {"poodle", "dog"};
  second.known = {"cat"};
  TinyContext context;
  const Erased erased =
      Registry<Method>::Get().Make("negative_prompt")->Erase(context, base, {first, second});
  REQUIRE(erased.hooks);
  CHECK(erased.unet.size() == 0);
  CHECK(context.unet_evaluations == 0);

  GuidanceBatch batch;
  batch.prompt_states = EncodeText(base, TokenizeBatch(*base.tokenizer, {"a", "picture"}, 16));
  batch.empty_states = EncodeText(base, TokenizeBatch(*base.tokenizer, {"", ""}, 16));
  batch.guidance_scale = 3;
  batch.num_steps = 4;
  const std::unique_ptr<HookRun> run = erased.hooks->Start(batch);
  const std::vector<at::Tensor> rows = run->Rows(batch, 0);
  REQUIRE(rows.size() == 2);
  const at::Tensor negative =
      EncodeText(base, TokenizeBatch(*base.tokenizer, {"poodle, dog, cat"}, 16));
  for (int64_t i = 0; i < 2; ++i) CHECK(rows[0][i].equal(negative[0]));
  CHECK(rows[1].equal(batch.prompt_states));
  CHECK_FALSE(rows[0].equal(batch.empty_states));

  // eps = 1 + 3 (2 - 1) = 4 for a negative prediction of 1 and a prompt's of 2.
  const at::Tensor ones = at::full({2, 4, 8, 8}, 1.0);
  CHECK(run->Combine(batch, 0, {ones, ones.mul(2)}).equal(ones.mul(4)));

  // At scale 1 guidance is off, and with it the negative prompt.
  batch.guidance_scale = 1;
  const std::vector<at::Tensor> unguided = erased.hooks->Start(batch)->Rows(batch, 0);
  REQUIRE(unguided.size() == 1);
  CHECK(unguided[0].equal(batch.prompt_states));
}

TEST_CASE("names of several concepts that do not fit are refused, for the last would stay") {
  const Backbone base = TinyBackbone();  // reads 16 tokens
  Concept first = TinyConcept(), second = TinyConcept();
  first.known = second.known = std::vector<std::string>(8, "poodle");
  TinyContext context;
  const auto method = Registry<Method>::Get().Make("negative_prompt");
  CHECK_THROWS_WITH(
      method->Erase(context, base, {first, second}),
      Catch::Contains("known names of 2 concepts") && Catch::Contains("longer than the 16 tokens"));
  CHECK_NOTHROW(method->Erase(context, base, {first}));
}

}  // namespace excise
