#include "training/closed_form.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <limits>

#include "core/error.h"
#include "core/random.h"
#include "models/tensors/autograd.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

at::Tensor Matrix(const std::vector<double>& values, int64_t width) {
  return at::tensor(values, at::kDouble).view({-1, width});
}

at::Tensor Normal(int64_t rows, int64_t width, const std::string& id) {
  Philox rng({1, id});
  const at::Tensor values = at::empty({rows, width}, at::kFloat);
  rng.FillNormal(values.data_ptr<float>(), values.numel());
  return values.to(at::kDouble);
}

StateDict Maps(const std::string& id) {
  StateDict maps;
  maps.Set("a.attn2.to_k.weight", Normal(3, 5, id + "/k"));
  maps.Set("a.attn2.to_v.weight", Normal(4, 5, id + "/v"));
  return maps;
}

double LargestGradient(const at::Tensor& loss, const at::Tensor& at_value) {
  return Gradients(loss, {at_value})[0].abs().max().item<double>();
}

}  // namespace

TEST_CASE("SolveRight by hand") {
  // A = [[4, 2], [2, 3]] has the inverse [[3, -2], [-2, 4]] / 8.
  const at::Tensor a = Matrix({4, 2, 2, 3}, 2);
  const at::Tensor b = Matrix({8, 8, 0, 8, 16, 0}, 2);
  CHECK(SolveRight(b, a).allclose(Matrix({1, 2, -2, 4, 6, -4}, 2), 0, 1e-14));
  // Strided views are read as what they are.
  const at::Tensor columns = Matrix({8, 0, 16, 8, 8, 0}, 3).t();
  CHECK(at::equal(SolveRight(columns, a), SolveRight(b, a)));
}

TEST_CASE("SolveRight refuses what has no single solution") {
  const at::Tensor b = Matrix({1, 2, 3, 4}, 2);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const std::vector<double>& bad :
       {std::vector<double>{1, 2, 2, 1}, {1, 1, 1, 1}, {0, 0, 0, 0}, {-1, 0, 0, -1}}) {
    CHECK_THROWS_WITH(SolveRight(b, Matrix(bad, 2)),
                      Contains("2 x 2") && Contains("not positive definite") && Contains("raise"));
  }
  CHECK_THROWS_AS(SolveRight(b, Matrix({1, 0, nan, 1}, 2)), Error);
  CHECK_THROWS_AS(SolveRight(b, Matrix({nan, 0, 0, 1}, 2)), Error);
  CHECK_THROWS_AS(SolveRight(b.mul(nan), Matrix({1, 0, 0, 1}, 2)), Error);
  CHECK_THROWS_WITH(SolveRight(Matrix({1, 2, 3}, 3), Matrix({1, 0, 0, 1}, 2)), Contains("width"));
  CHECK_THROWS_WITH(SolveRight(b, Matrix({1, 0, 0, 1, 0, 0}, 2)), Contains("width"));
  CHECK_THROWS_WITH(SolveRight(b.to(at::kFloat), Matrix({1, 0, 0, 1}, 2)), Contains("float64"));
}

TEST_CASE("a ridge edit is where its objective has no slope") {
  const StateDict original = Maps("original");
  const at::Tensor c = Normal(4, 5, "c"), g = Normal(2, 5, "g"), p = Normal(3, 5, "p");
  RidgeEdit edit(5, 0.3);
  edit.Move(c, g, 1.5);
  edit.Keep(p, 0.7);
  StateDict edited = original;
  edit.Apply(&edited);
  REQUIRE(edited.size() == 2);
  for (const auto& [name, map] : edited) {
    const at::Tensor w0 = original.Get(name), w = map.detach().set_requires_grad(true);
    const at::Tensor first = c.slice(0, 0, 2);  // g has two rows
    const auto gap = [&](const at::Tensor& x, const at::Tensor& y) {
      return (at::matmul(x, w.t()) - at::matmul(y, w0.t())).square().sum();
    };
    const at::Tensor loss = (w - w0).square().sum() * 0.3 + gap(first, g) * 1.5 + gap(p, p) * 0.7;
    CHECK(LargestGradient(loss, w) < 1e-11);
    CHECK(loss.item<double>() > 1e-2);
    CHECK_FALSE(at::equal(map, w0));
  }
}

TEST_CASE("fused edits are where their objective has no slope, and one that rules gives its maps") {
  const StateDict original = Maps("original"), first = Maps("first"), second = Maps("second");
  const at::Tensor c1 = Normal(4, 5, "c1"), c2 = Normal(2, 5, "c2"), kept = Normal(3, 5, "kept");
  const StateDict fused = FuseMaps(original, {{first, c1}, {second, c2}}, kept, 0.3, 0.7);
  for (const auto& [name, map] : fused) {
    const at::Tensor w = map.clone().requires_grad_(true), w0 = original.Get(name);
    const auto apart = [&](const at::Tensor& target, const at::Tensor& states) {
      return at::matmul(states, (w - target).t()).square().sum();
    };
    const at::Tensor objective = 0.7 * (w - w0).square().sum() + apart(first.Get(name), c1) +
                                 apart(second.Get(name), c2) + 0.3 * apart(w0, kept);
    CHECK(LargestGradient(objective, w) < 1e-12);
  }
  const StateDict alone = FuseMaps(original, {{first, 1e6 * Normal(9, 5, "many")}}, kept, 0, 1);
  for (const auto& [name, map] : alone) CHECK(map.allclose(first.Get(name), 0, 1e-9));
  for (const auto& [name, map] : FuseMaps(original, {}, kept, 0.3, 0.7)) {
    CHECK(at::equal(map, original.Get(name)));
  }
}

TEST_CASE("RegenerationMap by hand") {
  // W = diag(2, 1) and W0 = I: A = I + W'W = diag(5, 2), B = W0'W = diag(2, 1).
  StateDict original, edited;
  original.Set("a.attn2.to_k.weight", Matrix({1, 0, 0, 1}, 2));
  edited.Set("a.attn2.to_k.weight", Matrix({2, 0, 0, 1}, 2));
  CHECK(RegenerationMap(original, edited, 1).allclose(Matrix({0.4, 0, 0, 0.5}, 2), 0, 1e-14));
  // A map that was not edited needs no other states.
  CHECK(RegenerationMap(edited, edited, 1e-9).allclose(Matrix({1, 0, 0, 1}, 2), 0, 1e-8));
}

TEST_CASE("regenerated states are where their objective has no slope") {
  const StateDict original = Maps("original"), edited = Maps("edited");
  const at::Tensor c = Normal(4, 5, "c");
  const at::Tensor x =
      at::matmul(c, RegenerationMap(original, edited, 0.2)).set_requires_grad(true);
  const auto objective = [&](const at::Tensor& states) {
    at::Tensor loss = states.square().sum() * 0.2;
    for (const auto& [name, map] : edited) {
      const at::Tensor wanted = at::matmul(c, original.Get(name).t());
      loss = loss + (at::matmul(states, map.t()) - wanted).square().sum();
    }
    return loss;
  };
  CHECK(LargestGradient(objective(x), x) < 1e-11);
  CHECK(objective(x).item<double>() < objective(c).item<double>());
}

TEST_CASE("CrossAttentionMaps takes keys and values of cross-attention, and gives floats back") {
  StateDict unet;
  for (const char* name : {"a.attn1.to_k.weight", "a.attn2.to_q.weight", "a.attn2.to_k.weight",
                           "b.attn2.to_v.weight", "a.attn2.to_out.0.weight"}) {
    unet.Set(name, at::ones({2, 3}));
  }
  const StateDict maps = CrossAttentionMaps(unet);
  REQUIRE(maps.size() == 2);
  CHECK(maps.Get("a.attn2.to_k.weight").scalar_type() == at::kDouble);
  const StateDict weights = MapsAsWeights(maps, unet);
  REQUIRE(weights.size() == 2);
  CHECK(weights.Get("b.attn2.to_v.weight").scalar_type() == at::kFloat);
  CHECK(weights.Get("b.attn2.to_v.weight").data_ptr() !=
        unet.Get("b.attn2.to_v.weight").data_ptr());
}

TEST_CASE("the states that stand for a name") {
  const NoGrad no_grad;
  const std::filesystem::path folder = RepoFile("models/emoji");
  Backbone base;
  base.tokenizer = Tokenizer::Load(folder / "tokenizer");
  LoadTextEncoder(folder / "text_encoder", &base.clip, &base.text_encoder);
  const int64_t context = base.clip.text.max_position_embeddings;
  const auto all = [&](const std::string& text) {
    const at::Tensor ids = TokenizeBatch(*base.tokenizer, {text}, context);
    return EncodeText(base, ids)[0].to(at::kDouble);
  };
  std::string long_name;
  for (int i = 0; i < 50; ++i) long_name += "dog ";
  for (const std::string& name :
       {std::string("poodle"), std::string("tropical fish"), std::string(), long_name}) {
    INFO(name);
    const int64_t words = base.tokenizer->Encode(name).size();
    const int64_t last = words > context - 2 ? context - 2 : words;
    const at::Tensor states = all(name);
    CHECK(at::equal(NameStates(base, name, NameTokens::kAll), states));
    CHECK(at::equal(NameStates(base, name, NameTokens::kLast), states.slice(0, last, last + 1)));
    CHECK(
        at::equal(NameStates(base, name, NameTokens::kLastToEnd), states.slice(0, last, context)));
  }
}

}  // namespace excise
