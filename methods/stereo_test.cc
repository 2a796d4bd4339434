// Both stages against the formulae, with AdamW by hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "methods/captioned_pictures.h"
#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "methods/fine_tuning.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"
#include "training/diffusion.h"

namespace excise {
namespace {

constexpr double kSearchLr = 1e-3, kInversionLr = 1e-2, kLr = 2e-4, kDecay = 0.1;

std::unique_ptr<Method> Make(const Json& more = Json::object()) {
  std::unique_ptr<Method> method = Registry<Method>::Get().Make("stereo");
  Json params = {{"rounds", 1},
                 {"search_eta", 0.5},
                 {"search_lr", kSearchLr},
                 {"search_iterations", 1},
                 {"pictures", 3},
                 {"inversion_lr", kInversionLr},
                 {"inversion_steps", 1},
                 {"eta", 2},
                 {"anchor_scale", 0.7},
                 {"layers", "x"},
                 {"lr", kLr},
                 {"weight_decay", kDecay},
                 {"iterations", 2},
                 {"batch", 3},
                 {"trajectories", 2},
                 {"sampling_steps", 3}};
  params.update(more);
  DecodeParams(params, *method, "test");
  return method;
}

at::Tensor Predict(const Backbone& base, const StateDict& unet, const at::Tensor& x,
                   const at::Tensor& t, const at::Tensor& states) {
  return UNetForward(base.unet_config, unet, x, t, states.expand({x.size(0), -1, -1}));
}

// States of "a photo of <v>".
at::Tensor PhotoOf(const Backbone& base, const at::Tensor& v) {
  std::vector<int64_t> ids = {base.tokenizer->bos_id()};
  for (const int64_t id : base.tokenizer->Encode("a photo of ")) ids.push_back(id);
  const auto place = static_cast<int64_t>(ids.size());
  ids.push_back(0);
  ids.push_back(base.tokenizer->eos_id());
  ids.resize(16, base.tokenizer->pad_id());
  const at::Tensor row = at::tensor(ids, at::kLong).unsqueeze(0);
  const at::Tensor embeddings = ClipTokenEmbeddings(base.text_encoder, row);
  return EncodeTokens(base,
                      at::cat({embeddings.narrow(1, 0, place), v.view({1, 1, -1}),
                               embeddings.narrow(1, place + 1, 15 - place)},
                              1),
                      row);
}

}  // namespace

TEST_CASE("stereo: a round of the search and the last edit are AdamW's on the paper's losses") {
  const Backbone base = TinyBackbone();
  TinyContext context, again;
  const Erased erased = Make()->Erase(context, base, {TinyConcept()});
  const std::vector<std::string> layers = UNetLayers(base.unet, "x");
  const at::Tensor empty = EncodeTexts(base, {""}), names = EncodeTexts(base, {"poodle"});
  const GuidedTrajectory trajectory(base, 3);
  const PointPool pool{2, 3, 3};

  const ConceptPoints first = pool.Draw(again, base, trajectory, names, empty, "stereo/search/0");
  const StateDict searched =
      AdamWByHand(base.unet, layers, 1, kSearchLr, kDecay, [&](const StateDict& unet, int64_t) {
        const ConceptPoints some = first.Some(again.Rng("stereo/search/0"), 3);
        const at::Tensor target = some.empty - 0.5 * (some.text - some.empty);
        return (Predict(base, unet, some.latents, some.timesteps, names) - target).square().mean();
      });

  const std::vector<Concept> concepts = {TinyConcept()};
  const CaptionedPictures pictures = DrawCaptioned(again, base, concepts, "target", 3);
  const NoisedRows drawn = DrawNoisedRows(base.scheduler, pictures.latents,
                                          again.Rng("stereo/inversion/0/poodle"), 0, 3);
  StateDict start;
  const at::Tensor ids = at::tensor(base.tokenizer->Encode("poodle"), at::kLong).unsqueeze(0);
  start.Set("v", ClipTokenEmbeddings(base.text_encoder, ids)[0].mean(0));
  const at::Tensor v =
      AdamWByHand(start, {"v"}, 1, kInversionLr, 0.01, [&](const StateDict& now, int64_t) {
        const at::Tensor said =
            Predict(base, searched, drawn.noised, drawn.timesteps, PhotoOf(base, now.Get("v")));
        return (said - drawn.target).square().mean();
      }).Get("v");
  CHECK((v - start.Get("v")).abs().max().item<double>() > kInversionLr / 2);

  const at::Tensor found = PhotoOf(base, v).detach(), anchor = EncodeTexts(base, {"dog"});
  const ConceptPoints points =
      pool.Draw(again, base, trajectory, at::cat({names, found}), empty, "stereo");
  const StateDict expected =
      AdamWByHand(base.unet, layers, 2, kLr, kDecay, [&](const StateDict& unet, int64_t step) {
        const ConceptPoints some =
            points.Some(again.Rng("stereo/points", static_cast<uint64_t>(step)), 3);
        const auto original = [&](const at::Tensor& states) {
          return Predict(base, base.unet, some.latents, some.timesteps, states).detach();
        };
        const at::Tensor away = (original(names) + original(found)) / 2 - some.empty;
        const at::Tensor target = some.empty + 0.7 * (original(anchor) - some.empty) - 2 * away;
        return (Predict(base, unet, some.latents, some.timesteps, some.states) - target)
            .square()
            .mean();
      });
  CHECK(erased.unet.size() == layers.size());
  CHECK(FurthestApart(erased.unet, base.unet) > kLr / 2);
  CHECK(FurthestApart(erased.unet, expected) < 2e-5);
  CHECK(context.gradient_steps == 1 + 1 + 2);
  // Two pools, a round's edit, an inversion; the last edit with two texts and the anchor.
  CHECK(context.unet_evaluations == 2 * (2 * 3 * 2) + 3 + 3 + 2 * 3 * 4);
}

TEST_CASE("stereo: without a round it moves away from the names alone") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  const Json params = {{"rounds", 0},      {"lr", 2e-3}, {"anchor_scale", 0},
                       {"iterations", 60}, {"eta", 0},   {"weight_decay", 0}};
  const Erased erased = Make(params)->Erase(context, base, {TinyConcept()});
  CHECK(context.gradient_steps == 60);
  const Backbone edited = ApplyErased(base, erased);
  // With both scales at 0 the target is the empty prompt's answer.
  const at::Tensor x = context.Latents({"x"}), t = at::tensor({500}, at::kLong);
  const auto apart = [&](const Backbone& model) {
    return (Predict(base, model.unet, x, t, EncodeTexts(base, {"poodle"})) -
            Predict(base, base.unet, x, t, EncodeTexts(base, {""})))
        .norm()
        .item<double>();
  };
  CHECK(apart(edited) < 0.7 * apart(base));
}

TEST_CASE("stereo: a concept without names is refused") {
  const Backbone base = TinyBackbone();
  TinyContext context;
  Concept nameless = TinyConcept();
  nameless.known.clear();
  CHECK_THROWS_WITH(Make()->Erase(context, base, {nameless}), Catch::Contains("has none"));
}

}  // namespace excise
