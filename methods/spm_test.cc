// The adapter's training against the paper's formula, and its strength by hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include <catch2/catch.hpp>

#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

constexpr double kEta = 2, kAnchoring = 0.5, kLr = 1e-3, kAlpha = 3;

std::unique_ptr<Method> Make(const Json& more = Json::object()) {
  std::unique_ptr<Method> method = Registry<Method>::Get().Make("spm");
  Json params = {{"eta", kEta},        {"anchoring", kAnchoring}, {"lr", kLr},  {"alpha", kAlpha},
                 {"rank", 1},          {"iterations", 3},         {"batch", 3}, {"trajectories", 2},
                 {"sampling_steps", 3}};
  params.update(more);
  DecodeParams(params, *method, "test");
  return method;
}

bool Adapted(const std::string& name, const at::Tensor& weight) {
  return name.find(".attentions.") != std::string::npos && weight.dim() > 1;
}

// The U-Net with `strength` times the adapter of concept 0 in its weights.
StateDict Merged(const Backbone& base, const StateDict& adapter, double strength,
                 const std::string& prefix = "0.") {
  StateDict unet = base.unet;
  for (const auto& [name, weight] : base.unet) {
    if (!Adapted(name, weight)) continue;
    const std::string layer = prefix + name.substr(0, name.rfind('.'));
    const at::Tensor change = adapter.Get(layer + ".lora_B.weight")
                                  .flatten(1)
                                  .matmul(adapter.Get(layer + ".lora_A.weight").flatten(1));
    unet.Set(name, weight + strength * kAlpha * change.view(weight.sizes()));
  }
  return unet;
}

at::Tensor Cosine(const at::Tensor& a, const at::Tensor& b) {
  return (a * b).sum() / (a.norm() * b.norm());
}

}  // namespace

TEST_CASE("spm: three steps are AdamW's on the paper's loss, at a falling rate") {
  const Backbone base = TinyBackbone();
  TinyContext context, again;
  const Erased erased = Make()->Erase(context, base, {TinyConcept()});
  CHECK(erased.unet.size() == 0);
  const at::Tensor name = EncodeTexts(base, {"poodle"}), empty = EncodeTexts(base, {""});
  const PointPool pool{2, 3, 3};
  const ConceptPoints points =
      pool.Draw(again, base, GuidedTrajectory(base, 3), name, empty, "spm/poodle");

  // A starts as the trained one did, whose step at such a rate is told from the start's values.
  TinyContext still;
  const StateDict start =
      Make({{"lr", 0}, {"iterations", 1}})->Erase(still, base, {TinyConcept()}).hook_state;
  std::vector<std::string> names;
  for (const auto& [key, tensor] : start) {
    names.push_back(key);
    const bool up = key.find("lora_B") != std::string::npos;
    CHECK((tensor.abs().max().item<double>() == 0) == up);
  }
  size_t layers = 0;
  for (const auto& [key, weight] : base.unet) layers += Adapted(key, weight);
  CHECK(names.size() == 2 * layers);

  const auto loss = [&](const StateDict& adapter, int64_t step) {
    const auto stream = static_cast<uint64_t>(step);
    const ConceptPoints some = points.Some(again.Rng("spm/poodle/points", stream), 3);
    const auto said = [&](const StateDict& unet, const at::Tensor& states) {
      return UNetForward(base.unet_config, unet, some.latents, some.timesteps, states);
    };
    const StateDict edited = Merged(base, adapter, 1);
    const at::Tensor target = some.empty - kEta * (some.text - some.empty);
    Philox rng = again.Rng("spm/poodle/anchors", stream);
    std::vector<at::Tensor> texts;
    while (texts.size() < 3) {
      const at::Tensor drawn = UnitNormal(&rng, name.sizes());
      if (rng.Uniform() >= 1 - Cosine(drawn, name).item<double>()) continue;
      texts.push_back(drawn * (name.norm() / drawn.norm() * rng.Uniform(0.8, 1.2)));
    }
    const at::Tensor anchors = at::cat(texts);
    return (said(edited, name.expand({3, -1, -1})) - target).square().mean() +
           kAnchoring * (said(edited, anchors) - said(base.unet, anchors)).square().mean();
  };
  // Half a cosine over the steps.
  const StateDict expected = AdamWByHand(start, names, 3, kLr, 0.01, loss, {1, 0.5, 0});
  CHECK(FurthestApart(erased.hook_state, start) > kLr);
  CHECK(FurthestApart(erased.hook_state, expected) < 2e-5);
  CHECK(context.unet_evaluations == 2 * 3 * 2 + 3 * 3 * 3);
}

TEST_CASE("spm: a prompt draws with the adapter as strong as it is like the concept") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const Erased erased =
      Make({{"iterations", 20}, {"lr", 0.02}})->Erase(context, base, {TinyConcept()});
  const NoGrad no_grad;
  const std::vector<std::string> prompts = {"a poodle", "a cat"};
  const int64_t length = base.clip.text.max_position_embeddings;
  GuidanceBatch batch;
  batch.prompt_ids = TokenizeBatch(*base.tokenizer, prompts, length);
  batch.prompt_states = EncodeText(base, batch.prompt_ids);
  batch.empty_states = EncodeTexts(base, {""}).expand_as(batch.prompt_states);
  const at::Tensor name = EncodeTexts(base, {"poodle"});
  // "a poodle" holds the whole name; "a cat" none of it.
  const double cat = Cosine(batch.prompt_states[1], name[0]).item<double>();
  CHECK(cat < 0.999);
  const at::Tensor latents = TinyContext().Latents({"x"}).expand({4, -1, -1, -1});
  const at::Tensor timesteps = at::full({4}, 400, at::kLong);
  const at::Tensor states = at::cat({batch.empty_states, batch.prompt_states});
  for (const bool with_ids : {true, false}) {
    if (!with_ids) batch.prompt_ids = at::Tensor();
    const double poodle = with_ids ? 1 : Cosine(batch.prompt_states[0], name[0]).item<double>();
    const std::unique_ptr<HookRun> run = erased.hooks->Start(batch);
    run->Layers()->Begin({0, 2, 2});
    const at::Tensor said =
        UNetForward(base.unet_config, base.unet, latents, timesteps, states, run->Layers());
    const at::Tensor of_poodle = UNetForward(
        base.unet_config, Merged(base, erased.hook_state, poodle), latents, timesteps, states);
    const at::Tensor of_cat = UNetForward(base.unet_config, Merged(base, erased.hook_state, cat),
                                          latents, timesteps, states);
    const at::Tensor without = UNetForward(base.unet_config, base.unet, latents, timesteps, states);
    for (const int64_t row : {0, 2}) CHECK(said[row].allclose(of_poodle[row], 1e-4, 1e-5));
    for (const int64_t row : {1, 3}) CHECK(said[row].allclose(of_cat[row], 1e-4, 1e-5));
    CHECK((of_poodle - without).abs().max().item<double>() > 1e-3);
    CHECK((of_poodle - of_cat).abs().max().item<double>() > 1e-3);
  }
}

TEST_CASE("spm: adapters of several concepts add up, and each is its own training") {
  const Backbone base = TinyBackbone();
  Concept cat = TinyConcept();
  cat.name = "cat";
  cat.known = {"cat"};
  cat.preserve = {"dog"};
  TinyContext one, two, both;
  const StateDict first = Make()->Erase(one, base, {TinyConcept()}).hook_state;
  const StateDict second = Make()->Erase(two, base, {cat}).hook_state;
  const Erased erased = Make()->Erase(both, base, {TinyConcept(), cat});
  CHECK(erased.hook_state.size() == first.size() + second.size());
  for (const auto& [name, tensor] : first) CHECK(erased.hook_state.Get(name).equal(tensor));
  for (const auto& [name, tensor] : second) {
    CHECK(erased.hook_state.Get("1" + name.substr(1)).equal(tensor));
  }
}

}  // namespace excise
