// Every stage of mace against least squares and gradient steps that the test writes out.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "methods/captioned_pictures.h"
#include "methods/concept_text.h"
#include "models/nets/attention_maps.h"
#include "models/tensors/noise.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"
#include "training/diffusion.h"

namespace excise {
namespace {

const char* const kCaption = "a picture of a poodle";

Erased Erase(const Backbone& base, const Json& params, const Concept& subject,
             TinyContext* context) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("mace");
  DecodeParams(params, *method, "test");
  return method->Erase(*context, base, {subject});
}

at::Tensor States(const Backbone& base, const std::string& text) {
  return EncodeTexts(base, {text})[0].to(at::kDouble);
}

// argmin lambda |W - W0|^2 + sum of weight |W c - v|^2, with rows c and v, by the normal equations.
at::Tensor LeastSquares(const at::Tensor& w0, double lambda,
                        const std::vector<std::tuple<at::Tensor, at::Tensor, double>>& rows) {
  at::Tensor left = lambda * w0, right = lambda * at::eye(w0.size(1), at::kDouble);
  for (const auto& [c, v, weight] : rows) {
    left = left + weight * v.t().matmul(c);
    right = right + weight * c.t().matmul(c);
  }
  return at::linalg_solve(right, left, /*left=*/false);
}

StateDict Refined(const Backbone& base, const Concept& subject) {
  // "a picture of a" stands at 0 ... 4; the name and the anchor are one token each and stand at 5.
  const at::Tensor with = States(base, kCaption);
  const at::Tensor without = States(base, "a picture of a " + subject.anchor);
  const at::Tensor around = at::cat({at::arange(5), at::arange(6, 16)});
  const at::Tensor kept = States(base, "a picture of a cat");
  StateDict refined = base.unet;
  for (const auto& [name, weight] : base.unet) {
    if (name.find("attn2.to_k") == std::string::npos &&
        name.find("attn2.to_v") == std::string::npos) {
      continue;
    }
    const at::Tensor w0 = weight.to(at::kDouble);
    const at::Tensor c = with.index_select(0, around), g = without.index_select(0, around);
    refined.Set(name,
                LeastSquares(w0, 3, {{c, g.matmul(w0.t()), 1}, {kept, kept.matmul(w0.t()), 0.2}})
                    .to(at::kFloat));
  }
  return refined;
}

// The sum over cross-attentions of the norm of what pixels of `region` give to `tokens`.
class Watched : public LayerHooks {
 public:
  Watched(std::vector<int64_t> tokens, at::Tensor region)
      : tokens_(std::move(tokens)), region_(std::move(region)) {}
  bool WantsProbabilities(const std::string& name) const override {
    return name.find("attn2") != std::string::npos;
  }
  at::Tensor OnProbabilities(const std::string&, at::Tensor probabilities) override {
    const int64_t side = std::llround(std::sqrt(static_cast<double>(probabilities.size(2))));
    at::Tensor squares;
    for (int64_t pixel = 0; pixel < side * side; ++pixel) {
      const int64_t cell = 8 / side;
      const at::Tensor own =
          region_.narrow(0, pixel / side * cell, cell).narrow(1, pixel % side * cell, cell);
      if (own.mean().item<double>() <= 0.5) continue;
      for (const int64_t token : tokens_) {
        const at::Tensor one = probabilities.select(3, token).select(2, pixel).square().sum();
        squares = squares.defined() ? squares + one : one;
      }
    }
    if (squares.defined()) sum = sum.defined() ? sum + squares.sqrt() : squares.sqrt();
    return probabilities;
  }
  at::Tensor sum;

 private:
  std::vector<int64_t> tokens_;
  at::Tensor region_;
};

}  // namespace

TEST_CASE("mace: without a LoRA it is the least squares of the words around the name") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const Erased erased = Erase(base, {{"refine_lambda", 3}, {"preserve", 0.2}, {"iterations", 0}},
                              TinyConcept(), &context);
  const StateDict refined = Refined(base, TinyConcept());
  CHECK(erased.unet.size() == 14);
  CHECK(FurthestApart(erased.unet, base.unet) > 1e-3);
  CHECK(FurthestApart(erased.unet, refined) < 1e-6);
}

TEST_CASE("mace: two steps are AdamW's on masked attention, and the fusion is least squares") {
  const Backbone base = TinyBackbone();
  const Concept subject = TinyConcept();
  TinyContext context, again;
  const Json params = {{"refine_lambda", 3}, {"fuse_lambda", 2},  {"preserve", 0.2},
                       {"rank", 2},          {"lr", 0.01},        {"iterations", 2},
                       {"batch", 3},         {"end_token", true}, {"mask_threshold", 0.4}};
  const Erased erased = Erase(base, params, subject, &context);
  CHECK(context.unet_evaluations == 1 + 2 * 3);

  const StateDict refined = Refined(base, subject);
  const at::Tensor latents = again.Latents({kCaption});
  const at::Tensor states = EncodeTexts(base, {kCaption});
  at::Tensor region;
  {
    Philox rng = again.Rng("mace/regions/" + subject.name, 0);
    const at::Tensor early = at::full({1}, 200, at::kLong);
    AttentionMaps maps({5, 6});
    UNetForward(base.unet_config, base.unet,
                AddNoise(base.scheduler, latents, UnitNormal(&rng, latents.sizes()), early), early,
                states, &maps);
    region = maps.Region(8, 8, 0.4)[0];
  }
  StateDict lora;
  std::vector<std::string> names;
  for (const auto& [name, weight] : refined) {
    if (name.find("attn2.to_k.w") == std::string::npos &&
        name.find("attn2.to_v.w") == std::string::npos) {
      continue;
    }
    const std::string layer = name.substr(0, name.rfind('.'));
    Philox rng = again.Rng("mace/lora/" + subject.name + "/" + layer + ".lora_A.weight");
    lora.Set(layer + ".lora_A.weight", UnitNormal(&rng, {2, weight.size(1)}) / 2);
    lora.Set(layer + ".lora_B.weight", at::zeros({weight.size(0), 2}));
  }
  for (const auto& [name, tensor] : lora) names.push_back(name);
  const auto merged = [&](const StateDict& pairs) {
    StateDict unet = refined;
    for (const auto& [name, a] : pairs) {
      if (name.find("lora_A") == std::string::npos) continue;
      const std::string layer = name.substr(0, name.find(".lora_A"));
      unet.Set(layer + ".weight",
               refined.Get(layer + ".weight") + pairs.Get(layer + ".lora_B.weight").matmul(a));
    }
    return unet;
  };
  const auto loss = [&](const StateDict& pairs, int64_t step) {
    Philox rng = again.Rng("mace/pictures/" + subject.name, static_cast<uint64_t>(step));
    rng.Below(1);  // which caption: there is one
    std::vector<int64_t> drawn;
    for (int i = 0; i < 3; ++i) {
      // By inverting the sum of the density, term by term.
      double total = 0, until = 0;
      const auto density = [](int64_t t) {
        const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
        return sigmoid(0.05 * static_cast<double>(t - 200)) -
               sigmoid(0.05 * static_cast<double>(t - 400));
      };
      for (int64_t t = 0; t < 1000; ++t) total += density(t);
      const double wanted = rng.Uniform() * total;
      int64_t t = -1;
      while (until <= wanted) until += density(++t);
      drawn.push_back(t);
    }
    const at::Tensor x0 = latents.expand({3, -1, -1, -1});
    const at::Tensor timesteps = at::tensor(drawn, at::kLong);
    Watched watched({5, 6}, region);
    UNetForward(base.unet_config, merged(pairs),
                AddNoise(base.scheduler, x0, UnitNormal(&rng, x0.sizes()), timesteps), timesteps,
                states.expand({3, -1, -1}), &watched);
    return watched.sum;
  };
  const StateDict own = merged(AdamWByHand(lora, names, 2, 0.01, 0.01, loss));
  const at::Tensor c = States(base, kCaption), kept = States(base, "a picture of a cat");
  StateDict expected;
  for (const auto& [name, weight] : erased.unet) {
    const at::Tensor w1 = refined.Get(name).to(at::kDouble), wi = own.Get(name).to(at::kDouble);
    expected.Set(name,
                 LeastSquares(w1, 2, {{c, c.matmul(wi.t()), 1}, {kept, kept.matmul(w1.t()), 0.2}})
                     .to(at::kFloat));
  }
  CHECK(FurthestApart(erased.unet, refined) > 1e-4);
  CHECK(FurthestApart(erased.unet, expected) < 1e-5);
}

TEST_CASE("mace: a LoRA that does not move leaves the first edit as it is") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const Json still = {{"lr", 0}, {"iterations", 2}, {"refine_lambda", 3}, {"preserve", 0.2}};
  const Erased erased = Erase(base, still, TinyConcept(), &context);
  CHECK(FurthestApart(erased.unet, Refined(base, TinyConcept())) < 1e-6);
}

TEST_CASE("mace: pictures attend less to the name inside the mask") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const Backbone edited = ApplyErased(
      base,
      Erase(base, {{"iterations", 60}, {"lr", 0.02}, {"refine_lambda", 1e6}, {"fuse_lambda", 1e-3}},
            TinyConcept(), &context));
  const auto attention = [&](const Backbone& model) {
    AttentionMaps maps({5});
    const NoGrad no_grad;
    UNetForward(model.unet_config, model.unet, context.Latents({kCaption}),
                at::full({1}, 300, at::kLong), EncodeTexts(model, {kCaption}), &maps);
    return maps.MeanMap(8, 8).mean().item<double>();
  };
  CHECK(attention(edited) < 0.8 * attention(base));
}

}  // namespace excise
