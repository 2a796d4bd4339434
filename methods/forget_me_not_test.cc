// Two gradient steps on attention probabilities that the test reads itself, with AdamW by hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"
#include "training/diffusion.h"

namespace excise {
namespace {

Erased Erase(const Backbone& base, const Json& params, const Concept& subject,
             TinyContext* context) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("forget_me_not");
  DecodeParams(params, *method, "test");
  return method->Erase(*context, base, {subject});
}

// The sum of squares of what all cross-attentions give to `tokens` of the text.
class Watched : public LayerHooks {
 public:
  explicit Watched(std::vector<int64_t> tokens) : tokens_(std::move(tokens)) {}
  bool WantsProbabilities(const std::string& name) const override {
    return name.find("attn2") != std::string::npos;
  }
  at::Tensor OnProbabilities(const std::string&, at::Tensor probabilities) override {
    for (const int64_t token : tokens_) {
      const at::Tensor squares = probabilities.select(3, token).square().sum();
      sum = sum.defined() ? sum + squares : squares;
    }
    return probabilities;
  }
  at::Tensor sum;

 private:
  std::vector<int64_t> tokens_;
};

}  // namespace

TEST_CASE("forget_me_not: two steps are AdamW's on the norm of attention to the name") {
  const Backbone base = TinyBackbone();
  // start, "a", "picture", "of", "a", "poodle", end: the name's token, and the end token.
  const std::string caption = "a picture of a poodle";
  const auto length = static_cast<int64_t>(base.tokenizer->Encode(caption).size());
  const auto name = static_cast<int64_t>(base.tokenizer->Encode("poodle").size());
  for (const bool end_token : {false, true}) {
    TinyContext context, again;
    const Erased erased = Erase(base,
                                {{"layers", "x"},
                                 {"iterations", 2},
                                 {"batch", 3},
                                 {"lr", 1e-4},
                                 {"weight_decay", 0.1},
                                 {"end_token", end_token}},
                                TinyConcept(), &context);
    std::vector<int64_t> tokens;
    for (int64_t i = length - name; i < length; ++i) tokens.push_back(i + 1);
    if (end_token) tokens.push_back(length + 1);
    const at::Tensor states = EncodeTexts(base, {caption}).expand({3, -1, -1});
    const at::Tensor latents = again.Latents({caption});
    const auto loss = [&](const StateDict& unet, int64_t step) {
      Philox rng = again.Rng("forget_me_not/pictures", static_cast<uint64_t>(step));
      rng.Below(1);  // which caption: there is one
      const NoisedRows drawn = DrawNoisedRows(base.scheduler, latents, rng, step, 3);
      Watched watched(tokens);
      UNetForward(base.unet_config, unet, drawn.noised, drawn.timesteps, states, &watched);
      return watched.sum.sqrt();
    };
    const StateDict expected =
        AdamWByHand(base.unet, UNetLayers(base.unet, "x"), 2, 1e-4, 0.1, loss);
    CHECK(FurthestApart(erased.unet, base.unet) > 1e-4);
    CHECK(FurthestApart(erased.unet, expected) < 2e-6);
    CHECK(context.unet_evaluations == 2 * 3);
  }
}

TEST_CASE("forget_me_not: pictures attend less to the name") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const Backbone edited = ApplyErased(
      base, Erase(base, {{"iterations", 40}, {"batch", 4}, {"lr", 2e-3}}, TinyConcept(), &context));
  const std::string caption = "a picture of a poodle";
  const auto attention = [&](const Backbone& model) {
    Watched watched({static_cast<int64_t>(model.tokenizer->Encode(caption).size())});
    UNetForward(model.unet_config, model.unet, context.Latents({caption}),
                at::full({1}, 500, at::kLong), EncodeTexts(model, {caption}), &watched);
    return watched.sum.item<double>();
  };
  CHECK(attention(edited) < 0.7 * attention(base));
}

TEST_CASE("forget_me_not: prompts without a name are refused") {
  const Backbone base = TinyBackbone();
  // A context whose prompts speak of something else than the concept's names.
  class Strange : public TinyContext {
    std::vector<std::string> Prompts(const Concept&, const std::string&, int64_t) override {
      return {"a picture of a cat"};
    }
  } context;
  CHECK_THROWS_WITH(Erase(base, {{"iterations", 1}}, TinyConcept(), &context),
                    Catch::Contains("No prompt of the erase split holds a known name"));
}

}  // namespace excise
