#include "training/soft_prompt.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "models/tensors/numerics.h"
#include "tests/gradient_check.h"
#include "tests/testdata.h"
#include "training/optimizers.h"

namespace excise {
namespace {

at::Tensor Row(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).unsqueeze(0);
}

bool Near(const at::Tensor& a, const at::Tensor& b) { return a.allclose(b, 1e-12, 1e-14); }

Backbone Small() { return LoadBackbone(RepoFile("tests/fixtures/sd1")); }

StateDict InDouble(const StateDict& weights) {
  StateDict out;
  for (const auto& [name, tensor] : weights) out.Set(name, tensor.to(at::kDouble));
  return out;
}

// "a picture of a [] on a red background", and the row of the table for "poodle".
struct Poodle {
  explicit Poodle(const Backbone& model)
      : gap(MakePromptGap(*model.tokenizer, "a picture of a", "on a red background", 1, 16)),
        word(ClipTokenEmbeddings(
            model.text_encoder,
            at::tensor(model.tokenizer->Encode("poodle"), at::kLong).unsqueeze(0))) {}
  PromptGap gap;
  at::Tensor word;  // (1, 1, hidden)
};

}  // namespace

TEST_CASE("a text with a gap is framed, padded, and must fit") {
  const Backbone model = Small();
  const Tokenizer& tokenizer = *model.tokenizer;
  const PromptGap gap = MakePromptGap(tokenizer, "a picture", "dog", 3, 10);
  CHECK(gap.position == 3);
  CHECK(gap.length == 3);
  const at::Tensor whole = TokenizeBatch(tokenizer, {"a picture dog"}, 10);
  CHECK(gap.ids.narrow(1, 0, 3).equal(whole.narrow(1, 0, 3)));
  CHECK(gap.ids.narrow(1, 6, 4).equal(whole.narrow(1, 3, 4)));  // the word, end and padding
  for (const int64_t special : {tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()}) {
    CHECK_FALSE(gap.ids.narrow(1, 3, 3).eq(special).any().item<bool>());
  }
  CHECK(MakePromptGap(tokenizer, "", "", 8, 10).ids.size(1) == 10);
  CHECK_THROWS_WITH(MakePromptGap(tokenizer, "dog", "", 8, 10), Catch::Contains("at most 8"));
}

TEST_CASE("soft tokens take their places, one row or several") {
  const at::Tensor text = at::arange(8, at::kDouble).view({1, 4, 2});
  const at::Tensor soft = at::full({2, 2, 2}, -1.0, at::kDouble);
  const at::Tensor placed = PlaceTokens(text, soft, 1);
  const at::Tensor row = at::tensor({0., 1., -1., -1., -1., -1., 6., 7.}, at::kDouble).view({4, 2});
  REQUIRE(placed.sizes() == at::IntArrayRef({2, 4, 2}));
  CHECK(placed[0].equal(row));
  CHECK(placed[1].equal(row));
  CHECK(PlaceTokens(text.expand({3, 4, 2}), soft.narrow(0, 0, 1), 1)[2].equal(row));
}

TEST_CASE("a gap that holds a word's own embedding is that text, and its denoising loss") {
  const NoGrad no_grad;
  const Backbone model = Small();
  const Poodle poodle(model);
  const at::Tensor text = EncodeText(
      model, TokenizeBatch(*model.tokenizer, {"a picture of a poodle on a red background"}, 16));
  CHECK(EncodeSoftPrompt(model, poodle.gap, poodle.word).equal(text));

  const at::Tensor latents = nn::InitNormal({3, 4, 8, 8}, 1.0, 1, "latents");
  const DiffusionDraw draw = DrawDiffusion(model.scheduler, 5, 0, 0, 3, {4, 8, 8});
  const at::Tensor losses = InversionLosses(model, poodle.gap, poodle.word, latents, draw);
  CHECK(losses.equal(DenoisingLosses(model.unet_config, model.scheduler, model.unet, latents,
                                     text.expand({3, -1, -1}), draw)));
  CHECK_FALSE(InversionLosses(model, poodle.gap, poodle.word * 2, latents, draw).equal(losses));
  CHECK_THROWS_WITH(EncodeSoftPrompt(model, poodle.gap, at::zeros({1, 2, 24})),
                    Catch::Contains("gap of 1 tokens"));
}

TEST_CASE("textual inversion: its gradient is the loss's, and steps along it lower the loss") {
  UseOneThreadPerWorker();
  Backbone model = Small();
  model.text_encoder = InDouble(model.text_encoder);
  model.unet = InDouble(model.unet);
  const Poodle poodle(model);
  const at::Tensor latents = nn::InitNormal({1, 4, 8, 8}, 1.0, 1, "latents").to(at::kDouble);
  const DiffusionDraw draw = DrawDiffusion(model.scheduler, 5, 0, 0, 1, {4, 8, 8});
  at::Tensor soft = poodle.word.detach().clone();
  const auto losses = [&] { return InversionLosses(model, poodle.gap, soft, latents, draw); };
  CHECK(GradientError(losses, {soft}) < 1e-6);

  const double before = losses().mean().item<double>();
  OptimizerSpec spec;
  spec.name = "adam";
  spec.lr = 0.05;
  Optimizer optimizer(spec, {"soft"}, {soft});
  for (int step = 0; step < 5; ++step) optimizer.Step(Gradients(losses().mean(), {soft}));
  CHECK(losses().mean().item<double>() < before);
}

TEST_CASE("projection onto a ball: the nearest point, row by row") {
  const at::Tensor two = at::cat({Row({3, 4, 0}), Row({0.3, -0.4, 0})});
  CHECK(Near(ProjectToBall(two, {"l2", 1}), at::cat({Row({0.6, 0.8, 0}), Row({0.3, -0.4, 0})})));
  CHECK(ProjectToBall(two, {"l2", 1})[1].equal(two[1]));  // inside: bit for bit
  CHECK(Near(ProjectToBall(two, {"linf", 0.35}),
             at::cat({Row({0.35, 0.35, 0}), Row({0.3, -0.35, 0})})));
  CHECK(ProjectToBall(two * 0, {"l2", 1}).equal(two * 0));
  CHECK(ProjectToBall(two, {"l2", 0}).abs().max().item<double>() == 0);
  // All of a prompt's tokens are one row.
  CHECK(Near(ProjectToBall(at::tensor({3., 0., 0., 4.}, at::kDouble).view({1, 2, 2}), {"l2", 1}),
             at::tensor({0.6, 0., 0., 0.8}, at::kDouble).view({1, 2, 2})));
  CHECK_THROWS_WITH(ProjectToBall(two, {"l3", 1}), Catch::Contains("l3"));
  CHECK_THROWS_AS(ProjectToBall(two, {"l2", -1}), UsageError);
}

// f(d) = |d - c|^2 / 2 with c outside the ball: the minimum in it is c's own projection.
TEST_CASE("projected gradient steps: one by hand, and to the minimum of a quadratic") {
  const at::Tensor c = Row({6, -8}), start = at::zeros({1, 2}, at::kDouble);
  const auto slope = [&](const at::Tensor& delta) { return delta - c; };
  CHECK(Near(ProjectedStep(start, slope(start), {"l2", 1}, 0.5), Row({0.3, -0.4})));
  CHECK(Near(ProjectedStep(start, slope(start), {"linf", 1}, 0.25), Row({0.25, -0.25})));
  CHECK(ProjectedStep(start, start, {"l2", 1}, 0.5).equal(start));
  for (const char* norm : {"l2", "linf"}) {
    const Ball ball{norm, 2};
    at::Tensor delta = Row({-1, -1});
    for (int i = 0; i < 200; ++i) delta = ProjectedStep(delta, slope(delta), ball, 0.1);
    CHECK(delta.allclose(ProjectToBall(c, ball), 1e-4, 1e-4));
  }
}

}  // namespace excise
