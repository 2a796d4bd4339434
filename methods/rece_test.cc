#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>

#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"
#include "training/closed_form.h"

namespace excise {
namespace {

const char* const kKey = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";
const char* const kValue = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.weight";

StateDict Edited(const Backbone& base, const Json& params) {
  const std::unique_ptr<Method> rece = Registry<Method>::Get().Make("rece");
  DecodeParams(params, *rece, "test");
  TinyContext context;
  const Erased erased = rece->Erase(context, base, {TinyConcept()});
  CHECK(context.unet_evaluations == 0);
  CHECK(erased.text_encoder.size() == 0);
  CHECK(erased.vae.size() == 0);
  CHECK(erased.hooks == nullptr);
  return erased.unet;
}

void CheckNear(const StateDict& edited, const std::vector<double>& expected) {
  const at::Tensor values = at::cat({edited.Get(kKey).flatten(), edited.Get(kValue).flatten()});
  REQUIRE(values.numel() == static_cast<int64_t>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(values[static_cast<int64_t>(i)].item<double>() == Approx(expected[i]).margin(2e-6));
  }
}

}  // namespace

TEST_CASE("rece: the released loop in numpy") {  // tools/rece_reference.py
  Backbone base = HandmadeBackbone({{"poodle", {1, 0, -2}},
                                    {"dog", {0, 3, 1}},
                                    {"cat", {2, 1, 0.5}},
                                    {"start", {-1, 0, 4}},
                                    {"end", {0.3F, -0.7F, 0.1F}}},
                                   5, 1e-5);
  const at::Tensor key = at::tensor({1.F, 2.F, 3.F, -1.F, .5F, 2.F}).view({2, 3});
  base.unet.Set(kKey, key);
  base.unet.Set(kValue,
                at::tensor({.5F, -1.F, .25F, 2.F, 1.F, -1.5F, 0.F, .75F, 1.F}).view({3, 3}));
  base.unet.Set("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight", key);
  Json params = {{"regularisation", 0.2},
                 {"lambda", 0.5},
                 {"preserve_scale", 2},
                 {"epoch_lambda", 0.25},
                 {"epoch_preserve_scale", 0.75}};
  params["epochs"] = 0;
  CheckNear(Edited(base, params),
            {1.231331413, 2.066152191, 2.702516396, -0.653002881, 0.599228287, 1.553774593,
             0.365056676, -1.038588778, 0.423532103, 1.653002881, 0.900771713, -1.053774593,
             0.134943324, 0.788588778, 0.826467897});
  params["epochs"] = 1;
  CheckNear(Edited(base, params),
            {1.483256448, 2.038950847, 2.239300299, -0.28255097, 0.592568453, 0.888028714,
             0.21073837, -1.097929627, 0.672156567, 1.291298398, 0.926727413, -0.394759469,
             0.282089002, 0.791672083, 0.564676953});
  params["epochs"] = 3;
  CheckNear(Edited(base, params),
            {1.630026719, 1.68596072, 1.369402146, -0.026547433, 0.267109674, -0.217407946,
             0.035821985, -1.102845921, 1.158431487, 1.06119172, 1.237347858, 0.595324466,
             0.389481594, 0.655624748, 0.091902665});
}

TEST_CASE("rece: what brings the concept back minimises its objective, and dwindles") {
  const Backbone base = TinyBackbone();
  const StateDict original = CrossAttentionMaps(base.unet);
  const at::Tensor c = NameStates(base, "poodle", NameTokens::kAll);
  const double r = 0.1;
  // The objective at `x`, for the maps of a model.
  const auto objective = [&](const StateDict& maps, const at::Tensor& x) {
    at::Tensor loss = x.square().sum() * r;
    for (const auto& [name, map] : maps) {
      loss = loss + (at::matmul(x, map.t()) - at::matmul(c, original.Get(name).t())).square().sum();
    }
    return loss;
  };
  double before = 0;
  for (const int epochs : {0, 1, 3}) {
    const StateDict maps = CrossAttentionMaps(
        Edited(base, {{"epochs", epochs}, {"regularisation", r}, {"epoch_lambda", 0.3}}));
    CHECK(maps.size() == original.size());
    const at::Tensor x = at::matmul(c, RegenerationMap(original, maps, r)).set_requires_grad(true);
    const at::Tensor least = objective(maps, x);
    CHECK(Gradients(least, {x})[0].abs().max().item<double>() < 1e-9);
    CHECK(least.item<double>() > before);  // the concept is harder to bring back after every epoch
    before = least.item<double>();
  }
}

}  // namespace excise
