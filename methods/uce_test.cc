#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "methods/method.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

std::vector<float> Edited(const Backbone& base, const Concept& subject, const Json& params,
                          const std::string& name) {
  const std::unique_ptr<Method> uce = Registry<Method>::Get().Make("uce");
  DecodeParams(params, *uce, "test");
  TinyContext context;
  const Erased erased = uce->Erase(context, base, {subject});
  CHECK(context.unet_evaluations == 0);
  CHECK(erased.text_encoder.size() == 0);
  CHECK(erased.vae.size() == 0);
  const at::Tensor weight = erased.unet.Get(name).contiguous();
  return {weight.data_ptr<float>(), weight.data_ptr<float>() + weight.numel()};
}

void CheckNear(const std::vector<float>& values, const std::vector<double>& expected,
               double margin) {
  REQUIRE(values.size() == expected.size());
  for (size_t i = 0; i < values.size(); ++i) CHECK(values[i] == Approx(expected[i]).margin(margin));
}

const char* const kKey = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";
const char* const kValue = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.weight";

}  // namespace

TEST_CASE("uce: a 2 x 2 case by hand") {
  // A layer norm over two numbers gives (1, -1) or (-1, 1); weight and bias 1/2 make it (1, 0) for
  // the poodle, c, and (0, 1) for the dog, g. With l = a = 1: A = I + c c' = diag(2, 1),
  // first factor W0 (I + g c') = [[1 + 2, 2], [3 + 4, 4]], so W = [[3/2, 2], [7/2, 4]].
  Backbone base = HandmadeBackbone({{"poodle", {1, 0}}, {"dog", {0, 1}}}, 4, 0);
  base.text_encoder.Set("text_model.final_layer_norm.weight", at::tensor({0.5F, -0.5F}).abs());
  base.text_encoder.Set("text_model.final_layer_norm.bias", at::tensor({0.5F, 0.5F}));
  base.unet.Set(kKey, at::tensor({1.F, 2.F, 3.F, 4.F}).view({2, 2}));
  Concept subject = TinyConcept();
  subject.preserve = {};
  CheckNear(Edited(base, subject, {{"lambda", 1}, {"variant", "last_token"}}, kKey),
            {1.5, 2, 3.5, 4}, 1e-6);

  // Keeping the dog as well adds g g' to both factors: A = diag(2, 2), first factor W0 (I + g c' +
  // g g') = [[3, 4], [7, 8]], so W = [[3/2, 2], [7/2, 4]]: the edit did not touch g.
  subject.preserve = {"dog"};
  CheckNear(Edited(base, subject, {{"lambda", 1}, {"variant", "last_token"}}, kKey),
            {1.5, 2, 3.5, 4}, 1e-6);
}

TEST_CASE("uce: the paper's formula in numpy") {  // tools/uce_reference.py
  Backbone base = HandmadeBackbone({{"poodle", {1, 0, -2}},
                                    {"dog", {0, 3, 1}},
                                    {"cat", {2, 1, 0.5}},
                                    {"start", {-1, 0, 4}},
                                    {"end", {0.3F, -0.7F, 0.1F}}},
                                   5, 1e-5);
  const at::Tensor w0 = at::tensor({1.F, 2.F, 3.F, -1.F, .5F, 2.F}).view({2, 3});
  base.unet.Set(kKey, w0);
  base.unet.Set(kValue, w0.mul(2));
  base.unet.Set("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight", w0);
  Json params = {{"lambda", 0.5}, {"erase_scale", 1.5}, {"preserve_scale", 2}};
  params["variant"] = "last_token";
  CheckNear(Edited(base, TinyConcept(), params, kKey),
            {0.741016759, 3.683439477, 1.575543764, -1.388474861, 3.025159216, -0.136684354}, 2e-6);
  params["variant"] = "all_tokens";
  const std::vector<double> expected = {1.314978685,  2.089160212, 2.595861103,
                                        -0.527531972, 0.633740318, 1.393791654};
  CheckNear(Edited(base, TinyConcept(), params, kKey), expected, 2e-6);
  std::vector<double> twice;
  for (const double value : expected) twice.push_back(2 * value);
  CheckNear(Edited(base, TinyConcept(), params, kValue), twice, 4e-6);
}

TEST_CASE("uce: only cross-attention keys and values move, and names move to their anchor") {
  const Backbone base = TinyBackbone();
  const std::unique_ptr<Method> uce = Registry<Method>::Get().Make("uce");
  DecodeParams({{"lambda", 1e-6}, {"variant", "last_token"}}, *uce, "test");
  TinyContext context;
  const Erased erased = uce->Erase(context, base, {TinyConcept()});
  size_t maps = 0;
  for (const auto& [name, tensor] : base.unet) {
    const bool map = name.find("attn2.to_k.") != name.npos || name.find("attn2.to_v.") != name.npos;
    CHECK(erased.unet.Contains(name) == map);
    maps += map;
  }
  CHECK(maps > 4);

  // With next to no weight on the old map, "poodle" gives what "dog" gave, and "cat" is kept.
  const auto state = [&](const std::string& word) {
    const at::Tensor ids = TokenizeBatch(*base.tokenizer, {word}, 16);
    return EncodeText(base, ids)[0][base.tokenizer->Encode(word).size()];
  };
  for (const auto& [name, weight] : erased.unet) {
    const at::Tensor& old = base.unet.Get(name);
    CHECK(weight.matmul(state("poodle")).sub(old.matmul(state("dog"))).norm().item<double>() <
          1e-3);
    CHECK(weight.matmul(state("cat")).sub(old.matmul(state("cat"))).norm().item<double>() < 1e-3);
  }
}

}  // namespace excise
