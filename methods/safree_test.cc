// The projection, the number of steps and the filter of skip features, written out.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/stack.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <complex>

#include "methods/concept_text.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

const char* const kPrompt = "a picture of a poodle";

std::shared_ptr<const Hooks> HooksWith(const Backbone& base, const Json& params) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("safree");
  DecodeParams(params, *method, "test");
  TinyContext context;
  return method->Erase(context, base, {TinyConcept()}).hooks;
}

GuidanceBatch BatchOf(const Backbone& base, const std::vector<std::string>& prompts) {
  GuidanceBatch batch;
  batch.prompt_states = EncodeTexts(base, prompts);
  batch.empty_states = EncodeTexts(base, std::vector<std::string>(prompts.size(), ""));
  batch.guidance_scale = 3;
  batch.num_steps = 10;
  batch.prompt_ids =
      TokenizeBatch(*base.tokenizer, prompts, base.clip.text.max_position_embeddings);
  return batch;
}

at::Tensor PooledOf(const Backbone& base, const at::Tensor& ids) {
  return ClipTextForward(base.clip.text, base.text_encoder,
                         ClipTokenEmbeddings(base.text_encoder, ids), ids)
      .pooler_output.to(at::kDouble);
}

// Onto the span of rows, by their right singular vectors.
at::Tensor SpanOf(const at::Tensor& rows) {
  const auto [u, s, v] = at::linalg_svd(rows, /*full_matrices=*/false);
  const at::Tensor used = v.narrow(0, 0, s.gt(1e-9 * s[0]).sum().item<int64_t>());
  return used.t().matmul(used);
}

at::Tensor Normal(at::IntArrayRef sizes, const char* name) {
  at::Tensor drawn = at::empty(sizes, at::kFloat);
  Philox({1, name}).FillNormal(drawn.data_ptr<float>(), static_cast<size_t>(drawn.numel()));
  return drawn;
}

struct Expected {
  at::Tensor states;  // (tokens, width)
  double change = 0;
  int64_t triggers = 0;
};

Expected ByHand(const Backbone& base, double alpha) {
  const int64_t length = base.clip.text.max_position_embeddings;
  const at::Tensor ids = TokenizeBatch(*base.tokenizer, {kPrompt}, length);
  const auto words = static_cast<int64_t>(base.tokenizer->Encode(kPrompt).size());
  const at::Tensor concept_row =
      PooledOf(base, TokenizeBatch(*base.tokenizer, {"poodle"}, length))[0];
  std::vector<at::Tensor> pooled;
  std::vector<double> distance;
  for (int64_t i = 0; i < words; ++i) {
    at::Tensor masked = ids.clone();
    masked[0][1 + i] = 0;
    pooled.push_back(PooledOf(base, masked)[0]);
    const at::Tensor along =
        concept_row * (pooled.back().dot(concept_row) / concept_row.dot(concept_row));
    distance.push_back((pooled.back() - along).norm().item<double>());
  }
  const at::Tensor span = SpanOf(at::stack(pooled));
  Expected expected;
  expected.states = EncodeTexts(base, {kPrompt})[0].to(at::kDouble).clone();
  double cosines = 0;
  for (int64_t i = 0; i < words + 2; ++i) {
    const at::Tensor e = EncodeTexts(base, {kPrompt})[0][i].to(at::kDouble);
    at::Tensor projected = span.matmul(e);
    projected =
        projected - concept_row * (projected.dot(concept_row) / concept_row.dot(concept_row));
    cosines += (projected.dot(e) / (projected.norm() * e.norm())).item<double>();
    if (i == 0 || i > words) continue;
    double others = 0;
    for (int64_t j = 0; j < words; ++j) {
      if (j != i - 1) others += distance[static_cast<size_t>(j)] / static_cast<double>(words - 1);
    }
    if (distance[static_cast<size_t>(i - 1)] < (1 + alpha) * others) continue;
    expected.states[i] = projected;
    ++expected.triggers;
  }
  expected.change = 1 - cosines / static_cast<double>(words + 2);
  return expected;
}

}  // namespace

TEST_CASE("safree: triggers are projected, for as many steps as the prompt changes") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  for (const double alpha : {-1.0, 0.0}) {  // every word; those that lie further than the others
    const Expected expected = ByHand(base, alpha);
    REQUIRE(expected.triggers > 0);
    const double middle = 10 * expected.change - 0.1;
    const auto hooks =
        HooksWith(base, {{"alpha", alpha}, {"share", 0.5}, {"steepness", 2}, {"middle", middle}});
    const GuidanceBatch batch = BatchOf(base, {kPrompt});
    const std::unique_ptr<HookRun> run = hooks->Start(batch);
    // 5 of 10 steps, times the logistic function of 2 * 2 * 0.1: 2.99 of them, and step 0.
    const auto last = std::llround(5 / (1 + std::exp(-0.4)));
    CHECK(last == 3);
    for (int64_t step = 0; step < 10; ++step) {
      const std::vector<at::Tensor> rows = run->Rows(batch, step);
      REQUIRE(rows.size() == 2);
      CHECK(rows[0].equal(batch.empty_states));
      const at::Tensor wanted =
          step <= last ? expected.states.to(at::kFloat) : batch.prompt_states[0];
      CHECK((rows[1][0] - wanted).abs().max().item<double>() < 1e-4);
    }
    CHECK((expected.states.to(at::kFloat) - batch.prompt_states[0]).abs().max().item<double>() >
          0.01);
  }
}

TEST_CASE("safree: what a prompt becomes does not depend on the batch, and wordless ones stay") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const auto hooks = HooksWith(base, {{"share", 1}, {"middle", 0}, {"alpha", -1}});
  const GuidanceBatch both = BatchOf(base, {"a picture of a dog", kPrompt}),
                      one = BatchOf(base, {kPrompt});
  const at::Tensor together = hooks->Start(both)->Rows(both, 0)[1][1];
  CHECK((together - hooks->Start(one)->Rows(one, 0)[1][0]).abs().max().item<double>() < 1e-5);
  const GuidanceBatch empty = BatchOf(base, {""});
  CHECK(hooks->Start(empty)->Rows(empty, 0)[1].equal(empty.prompt_states));
  GuidanceBatch embedded = one;
  embedded.prompt_ids = at::Tensor();  // an attack's own states
  CHECK(hooks->Start(embedded)->Rows(embedded, 0)[1].equal(one.prompt_states));
  const TextBatch text{one.prompt_ids,
                       ClipTokenEmbeddings(base.text_encoder, one.prompt_ids),
                       one.prompt_states,
                       {}};
  CHECK((hooks->TextView(text)[0] - together).abs().max().item<double>() < 1e-5);
}

TEST_CASE("safree: re-attention damps low frequencies that exceed the prompt's own") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const auto hooks = HooksWith(base, {{"re_attention", true}, {"first_scale", 0.5}, {"share", 1}});
  const GuidanceBatch batch = BatchOf(base, {kPrompt});
  const std::unique_ptr<HookRun> run = hooks->Start(batch);
  CHECK(run->Rows(batch, 0).size() == 3);
  LayerHooks* layers = run->Layers();
  REQUIRE(layers != nullptr);
  layers->Begin({0, 3, 1});
  REQUIRE(layers->WantsSkips());
  at::Tensor hidden = Normal({3, base.unet_config.block_out_channels.back(), 4, 4}, "hidden");
  const at::Tensor before = Normal({3, 2, 4, 4}, "skip");
  at::Tensor skip = before.clone();
  layers->OnSkip(0, &hidden, &skip);
  CHECK(skip[0].equal(before[0]));
  CHECK(skip[2].equal(before[2]));
  // One channel by the definition of the discrete Fourier transform.
  using Complex = std::complex<double>;
  const auto frequency = [&](int64_t stream, int64_t u, int64_t v) {
    Complex sum = 0;
    for (int64_t y = 0; y < 4; ++y) {
      for (int64_t x = 0; x < 4; ++x) {
        const double angle = -2 * M_PI * static_cast<double>(u * y + v * x) / 4;
        sum += before[stream][1][y][x].item<double>() * std::polar(1.0, angle);
      }
    }
    return sum;
  };
  int64_t damped = 0;
  for (int64_t y = 0; y < 4; ++y) {
    for (int64_t x = 0; x < 4; ++x) {
      Complex sum = 0;
      for (int64_t u = 0; u < 4; ++u) {
        for (int64_t v = 0; v < 4; ++v) {
          Complex guarded = frequency(1, u, v);
          const bool low = (u == 0 || u == 3) && (v == 0 || v == 3);
          if (low && frequency(2, u, v).real() <= guarded.real()) {
            guarded *= 0.5;
            ++damped;
          }
          sum +=
              guarded * std::polar(1.0, 2 * M_PI * static_cast<double>(u * y + v * x) / 4) / 16.0;
        }
      }
      CHECK(skip[1][1][y][x].item<double>() == Approx(sum.real()).margin(1e-5));
    }
  }
  CHECK(damped > 0);
}

}  // namespace excise
