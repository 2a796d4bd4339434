#include "experiments/run/encode_prompts.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

NpyArray ArrayOf(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {tensor.sizes().vec(), {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()}};
}

Prompt Text(const std::string& text) { return TinyPrompt("tiny/0", text); }

Prompt Embedded(const std::string& text, const at::Tensor& rows) {
  Prompt prompt = Text(text);
  prompt.driver = TokenEmbeddings{ArrayOf(rows)};
  return prompt;
}

}  // namespace

TEST_CASE("texts are encoded as ever; a word's own embedding in its place changes nothing") {
  const NoGrad no_grad;
  const Backbone model = TinyBackbone();
  const int64_t context = model.clip.text.max_position_embeddings;
  const std::vector<std::string> texts = {"a picture of a dog", "a cat"};
  const at::Tensor ids = TokenizeBatch(*model.tokenizer, texts, context);
  const EncodedPrompts plain = EncodePrompts(model, nullptr, {Text(texts[0]), Text(texts[1])});
  CHECK(plain.ids.equal(ids));
  CHECK_FALSE(plain.embeddings.defined());
  CHECK(plain.states.equal(EncodeText(model, ids)));

  const std::vector<int64_t> dog = model.tokenizer->Encode("dog");
  REQUIRE(dog.size() == 1);
  const at::Tensor row = ClipTokenEmbeddings(model.text_encoder, ids)[0].narrow(0, 5, 1);
  const EncodedPrompts mixed =
      EncodePrompts(model, nullptr, {Embedded("a picture of a <embeddings>", row), Text(texts[1])});
  CHECK(mixed.states.allclose(plain.states, 1e-5, 1e-6));
  // Another row is another word.
  const EncodedPrompts other = EncodePrompts(
      model, nullptr, {Embedded("a picture of a <embeddings>", row * 3), Text(texts[1])});
  CHECK_FALSE(other.states[0].allclose(plain.states[0], 1e-3, 1e-3));
  CHECK(other.states[1].allclose(plain.states[1], 1e-5, 1e-6));
  // Held against the room that learns such embeddings.
  const PromptGap gap = MakePromptGap(*model.tokenizer, "a picture of a ", "", 1, context);
  CHECK(
      other.states[0].allclose(EncodeSoftPrompt(model, gap, row.unsqueeze(0) * 3)[0], 1e-5, 1e-6));
  CHECK(other.embeddings[0][5].equal(row[0] * 3));
}

TEST_CASE("text states stand as they are; latents come along") {
  const NoGrad no_grad;
  const Backbone model = TinyBackbone();
  const int64_t context = model.clip.text.max_position_embeddings;
  const at::Tensor wanted =
      EncodeText(model, TokenizeBatch(*model.tokenizer, {"a poodle"}, context)) * 0.5;
  Prompt states = Text("whatever");
  states.driver = TextStates{ArrayOf(wanted[0])};
  const EncodedPrompts encoded = EncodePrompts(model, nullptr, {Text("a cat"), states});
  CHECK(encoded.states[1].equal(wanted[0]));
  CHECK_FALSE(OwnLatents(model, states).defined());
  const at::Tensor latents = TinyImages(4, 3).narrow(1, 0, 1).narrow(2, 0, 8).narrow(3, 0, 8);
  states.latents = ArrayOf(latents.reshape({4, 8, 8}));
  CHECK(OwnLatents(model, states).equal(latents.reshape({4, 8, 8})));
}

TEST_CASE("numbers that do not fit the model are refused with the prompt's id") {
  const Backbone model = TinyBackbone();
  const at::Tensor row =
      ClipTokenEmbeddings(model.text_encoder, TokenizeBatch(*model.tokenizer, {"dog"}, 16))[0]
          .narrow(0, 1, 1);
  CHECK_THROWS_WITH(EncodePrompts(model, nullptr, {Embedded("a picture", row)}),
                    Catch::Contains("tiny/0") && Catch::Contains("<embeddings>"));
  CHECK_THROWS_WITH(EncodePrompts(model, nullptr, {Embedded("<embeddings> and <embeddings>", row)}),
                    Catch::Contains("once"));
  CHECK_THROWS_WITH(EncodePrompts(model, nullptr, {Embedded("<embeddings>", row.narrow(1, 0, 3))}),
                    Catch::Contains("token embeddings") && Catch::Contains("another model"));
  Prompt states = Text("a");
  states.driver = TextStates{{{2, 3}, std::vector<float>(6)}};
  CHECK_THROWS_WITH(EncodePrompts(model, nullptr, {states}), Catch::Contains("text states"));
  states.latents = {{4, 8}, std::vector<float>(32)};
  CHECK_THROWS_WITH(OwnLatents(model, states), Catch::Contains("initial latents"));
}

}  // namespace excise
