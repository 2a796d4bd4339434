#include "methods/safe_clip/safe_clip_states.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "core/random.h"
#include "core/text.h"
#include "methods/safe_clip/safe_clip_training.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

TEST_CASE("Drift of token states by hand: two texts of two tokens in the plane") {
  const at::Tensor original = at::tensor({3.0, 4.0, 0.0, 5.0, 1.0, 0.0, 0.0, 1.0}).view({2, 2, 2});
  const at::Tensor states = at::tensor({3.0, 4.0, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0}).view({2, 2, 2});
  // The first text moved by 5 at one of two tokens, both of norm 5; the second one is gone.
  const at::Tensor drift = TokenStateDrift(states, original);
  CHECK(drift[0].item<double>() == Approx(25.0 / 50));
  CHECK(drift[1].item<double>() == Approx(1));
  CHECK(TokenStateDrift(original, original).sum().item<double>() == 0);
}

// torch, transformers and peft in double precision: tools/safe_clip_reference.py.
TEST_CASE("Terms on token states and their gradient equal the reference's") {
  const StateDict file = LoadSafetensors(RepoFile("tests/fixtures/safe_clip.safetensors"), false);
  ClipTowers original;
  StateDict lora;
  for (const auto& [name, tensor] : file) {
    if (StartsWith(name, "model.")) original.weights.Set(name.substr(6), tensor);
    if (StartsWith(name, "lora.text_model.")) lora.Set(name.substr(5), tensor.clone());
  }
  original.config.text = {30, 16, 24, 2, 2, 8, 6, 28, 29, 29};
  LoraSpec spec = SafeClipLora();
  spec.rank = 3;
  spec.dropout = 0;
  const at::Tensor leaf =
      lora.Get("text_model.encoder.layers.0.self_attn.v_proj.lora_A.weight").requires_grad_(true);
  ClipTowers tuned = original;
  tuned.weights = ApplyLora(original.weights, lora, spec);
  const at::Tensor ids = file.Get("batch.ids");
  const QuadrupletBatch batch = {ids[0][0], ids[0][1], {}, {}};
  const at::Tensor empty = at::tensor({28, 29, 29, 29, 29, 29, 29, 29}, at::kLong).view({1, 8});
  const double hold = file.Get("states.hold").mean().item<double>();
  const double redirect = file.Get("states.redirect").mean().item<double>();
  const auto loss = [&](TokenStateTerms terms) {
    return TokenStateLoss(tuned, original, batch, empty, terms);
  };
  CHECK(loss({1, 0, 5}).item<double>() == Approx(hold).epsilon(1e-9));
  CHECK(loss({0, 1, 5}).item<double>() == Approx(redirect).epsilon(1e-9));
  const at::Tensor both = loss({2, 3, 5});
  CHECK(both.item<double>() == Approx(2 * hold + 3 * redirect).epsilon(1e-9));
  const at::Tensor error = Gradients(both, {leaf})[0] - file.Get("states.gradient");
  CHECK(error.abs().max().item<double>() < 1e-9);
  // Of a batch of five the first two texts and the empty prompt.
  const at::Tensor few = file.Get("states.hold");
  CHECK(loss({1, 0, 2}).item<double>() ==
        Approx(((few[0] + few[1] + few[5]) / 3).item<double>()).epsilon(1e-9));
  // Further texts are held like these: the third and the fourth.
  const at::Tensor further =
      TokenStateLoss(tuned, original, batch, empty, {1, 0, 2}, nullptr, ids[0][0].slice(0, 2, 4));
  CHECK(further.item<double>() ==
        Approx(((few[0] + few[1] + few[2] + few[3] + few[5]) / 5).item<double>()).epsilon(1e-9));
}

TEST_CASE("Random words: half of them, from the whole vocabulary; start, end and padding stay") {
  ClipTextConfig config;
  config.vocab_size = 30;
  config.bos_token_id = 28;
  config.eos_token_id = config.pad_token_id = 29;
  at::Tensor ids = at::full({500, 8}, 7, at::kLong);
  ids.select(1, 0).fill_(28);
  ids.slice(1, 6).fill_(29);
  Philox rng({.seed = 1, .id = "test", .stream = Stream::kData});
  const at::Tensor drawn = WithRandomWords(ids, config, &rng);
  CHECK(drawn.select(1, 0).eq(28).all().item<bool>());
  CHECK(drawn.slice(1, 6).eq(29).all().item<bool>());
  const at::Tensor words = drawn.slice(1, 1, 6);
  CHECK(words.min().item<int64_t>() == 0);
  CHECK(words.max().item<int64_t>() == 27);
  // 2,500 words, each another one with probability 27 / 56: within five standard deviations.
  CHECK(words.ne(7).sum().item<int64_t>() == Approx(2500 * 27.0 / 56).margin(5 * 25));
  CHECK(ids.select(1, 1).eq(7).all().item<bool>());
}

}  // namespace
}  // namespace excise
