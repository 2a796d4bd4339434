// The two latent streams against closed forms, at equal U-Net batch shapes.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "methods/latent_blend/latent_blend_run.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

constexpr int64_t kSteps = 5;

at::Tensor States(const Backbone& base, const std::vector<std::string>& texts) {
  return EncodeText(base,
                    TokenizeBatch(*base.tokenizer, texts, base.clip.text.max_position_embeddings));
}

// What hooks that read states alone need.
TextBatch Text(const at::Tensor& states) { return {{}, {}, states, {}}; }

at::Tensor Noise(int64_t n) {
  at::Tensor x = at::empty({n, 4, 8, 8}, at::kFloat);
  for (int64_t i = 0; i < n; ++i) {
    const std::string id = "test/" + std::to_string(i);
    Philox rng({1, id});
    const at::Tensor one = x[i];
    rng.FillNormal(one.data_ptr<float>(), one.numel());
  }
  return x;
}

struct Drawing {
  at::Tensor latents;
  int64_t evaluations = 0;
  Signals detected;
};

Drawing Draw(const Backbone& base, const Hooks* hooks, const std::vector<std::string>& prompts,
             double guidance = 3) {
  const at::Tensor states = States(base, prompts);
  SamplerSpec spec;
  spec.steps = kSteps;
  spec.guidance_scale = guidance;
  Drawing drawing;
  drawing.latents =
      SampleLatents(base, hooks, states, States(base, {""}).expand_as(states),
                    Noise(prompts.size()), spec, &drawing.evaluations, &drawing.detected);
  return drawing;
}

Erased Blend(const Json& params, const Backbone& base, const Concept& subject = TinyConcept(),
             TinyContext* context = nullptr) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("latent_blend");
  Json settings = {{"detectors", "none"}, {"w", 1}, {"tau_gc", 0}, {"blend", "latent"}};
  settings.update(params);
  DecodeParams(settings, *method, "test");
  TinyContext own;
  return method->Erase(context != nullptr ? *context : own, base, {subject});
}

Drawing DrawWith(const Json& params, const std::vector<std::string>& prompts, double guidance = 3) {
  const Backbone base = TinyBackbone();
  return Draw(base, Blend(params, base).hooks.get(), prompts, guidance);
}

void SaveTextEncoder(const std::filesystem::path& folder, const ClipModel& clip) {
  std::filesystem::create_directories(folder);
  WriteFileAtomically(folder / "config.json", ClipConfigToJson(clip.config).dump());
  SaveSafetensors(folder / "model.safetensors", clip.weights);
}

double Distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

// Three rows a picture, as while blending, but guidance follows one of them: 1 prompt, 2 safe.
class ThreeRows : public Hooks {
 public:
  ThreeRows(at::Tensor safe, size_t follow) : safe_(std::move(safe)), follow_(follow) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    struct Run : HookRun {
      at::Tensor safe;
      size_t follow = 1;
      std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t) override {
        return {batch.empty_states, batch.prompt_states, safe.expand_as(batch.prompt_states)};
      }
      at::Tensor Combine(const GuidanceBatch& batch, int64_t,
                         const std::vector<at::Tensor>& predictions) override {
        return predictions[0] + batch.guidance_scale * (predictions[follow] - predictions[0]);
      }
    };
    auto run = std::make_unique<Run>();
    run->safe = safe_;
    run->follow = follow_;
    return run;
  }

 private:
  at::Tensor safe_;
  size_t follow_;
};

}  // namespace

TEST_CASE("latent_blend: w = 0 is the base run, w = 1 the safe prompt's, bit for bit") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const Drawing plain = Draw(base, nullptr, {"a poodle", "a cat"});
  const Drawing safe = Draw(base, nullptr, {"dog", "dog"});
  REQUIRE(Distance(plain.latents, safe.latents) > 1e-3);
  for (const char* streams : {"coupled", "independent"}) {
    for (const char* quantity : {"latent", "x0", "noise"}) {
      for (const bool renormalise : {false, true}) {
        INFO(streams << " " << quantity << " " << renormalise);
        Json params = {{"streams", streams}, {"blend", quantity}, {"renormalise", renormalise}};
        params["w"] = 0;
        const Drawing none = DrawWith(params, {"a poodle", "a cat"});
        CHECK(none.latents.equal(plain.latents));
        CHECK(none.evaluations == plain.evaluations);
        params["w"] = 0.7;
        params["tau_gc"] = 1;  // the prompt lays out everything
        CHECK(DrawWith(params, {"a poodle", "a cat"}).latents.equal(plain.latents));
        params["w"] = 1;
        params["tau_gc"] = 0;
        const Drawing all = DrawWith(params, {"a poodle", "a cat"});
        CHECK(Distance(all.latents, safe.latents) < 1e-5);
        if (params["streams"] == "coupled") CHECK(all.latents.equal(safe.latents));
      }
    }
  }
}

TEST_CASE("latent_blend: pictures of one batch have weights of their own, at one batch shape") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const at::Tensor safe = States(base, {"dog"});
  const std::vector<std::string> prompts = {"a picture of a poodle", "a picture of a cat"};
  const at::Tensor base_run =
      Draw(base, std::make_unique<ThreeRows>(safe, 1).get(), prompts).latents;
  const at::Tensor safe_run =
      Draw(base, std::make_unique<ThreeRows>(safe, 2).get(), prompts).latents;
  const Drawing ordinary = Draw(base, nullptr, prompts);
  // The detector fires for the poodle alone, so both rows are there for both pictures.
  for (const char* quantity : {"latent", "x0", "noise"}) {
    for (const bool renormalise : {false, true}) {
      INFO(quantity << " " << renormalise);
      const Drawing drawing = DrawWith(
          {{"w", 1}, {"detectors", "text"}, {"blend", quantity}, {"renormalise", renormalise}},
          prompts);
      CHECK(drawing.latents[0].equal(safe_run[0]));
      CHECK(drawing.latents[1].equal(base_run[1]));
      CHECK(Distance(drawing.latents[1], ordinary.latents[1]) < 1e-5);
      CHECK(drawing.evaluations == 3 * 2 * kSteps);
      const at::Tensor scores = drawing.detected.at("text_detector").scores;
      CHECK(scores[0].item<double>() > 0);
      CHECK(scores[1].item<double>() < 0);
    }
  }
}

TEST_CASE("latent_blend: a picture that no detector fires for settles on its prompt") {
  const NoGrad no_grad;
  const std::vector<std::string> prompts = {"a picture of a poodle", "a picture of a cat"};
  const Drawing plain = Draw(TinyBackbone(), nullptr, prompts);
  const Drawing drawn = DrawWith(
      {{"blend", "nearest"}, {"w", 0.9}, {"settle_at", 0}, {"detectors", "text"}}, prompts);
  CHECK(Distance(drawn.latents[1], plain.latents[1]) < 1e-5);
  CHECK(drawn.evaluations == 2 * (3 + 2 * (kSteps - 1)));
}

TEST_CASE("latent_blend: rows are drawn only where they are needed, all in one call") {
  const NoGrad no_grad;
  const std::vector<std::string> prompts = {"a picture of a poodle", "a picture of a cat"};
  const auto rows = [&](Json params, double guidance = 3) {
    return DrawWith(params, prompts, guidance).evaluations / 2;
  };
  CHECK(rows({{"w", 0.5}}) == 3 * kSteps);
  CHECK(rows({{"w", 0.5}}, 1) == 2 * kSteps);
  CHECK(rows({{"w", 0.5}, {"tau_gc", 0.4}}) == 2 * 2 + 3 * 3);
  CHECK(rows({{"w", 0.5}, {"tau_gc", 0.5}}) == 2 * 3 + 3 * 2);  // 2.5 steps are 3
  CHECK(rows({{"w", 1}}) == 2 * kSteps);                        // nothing of the prompt is left
  CHECK(rows({{"w", 0.5}, {"streams", "independent"}}) == 4 * kSteps);
  CHECK(rows({{"w", 0.5}, {"streams", "independent"}}, 1) == 2 * kSteps);
  // Detection at step 1 of 5; blending from step 2.
  CHECK(
      rows({{"w", 0.5}, {"detectors", "latent"}, {"latent_threshold", -100}, {"detect_at", 0.2}}) ==
      2 * 2 + 3 * 3);

  // A detector that never fires costs nothing and changes nothing.
  const Backbone base = TinyBackbone();
  const Drawing plain = Draw(base, nullptr, prompts);
  for (const char* detectors : {"text", "latent", "either"}) {
    INFO(detectors);
    const Drawing silent = DrawWith(
        {{"w", 0.5}, {"detectors", detectors}, {"text_threshold", 2}, {"latent_threshold", 100}},
        prompts);
    CHECK(silent.evaluations == plain.evaluations);
    CHECK(silent.latents.equal(plain.latents));
  }
  const Drawing silent = DrawWith(
      {{"w", 0.5}, {"streams", "independent"}, {"detectors", "text"}, {"text_threshold", 2}},
      prompts);
  CHECK(silent.evaluations == plain.evaluations);
  CHECK(silent.latents.equal(plain.latents));
}

TEST_CASE("latent_blend: coupled streams, the equation step by step") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const std::vector<std::string> prompts = {"a poodle", "a cat"};
  const at::Tensor states = States(base, prompts), safe = States(base, {"dog"}).expand_as(states),
                   empty = States(base, {""}).expand_as(states);
  const double w = 0.3, scale = 3;
  // Two samplers, two updates, one sum.
  const std::unique_ptr<Sampler> first = MakeSampler(base.scheduler, kSteps),
                                 second = MakeSampler(base.scheduler, kSteps);
  at::Tensor x = Noise(2);
  const auto predict = [&](const at::Tensor& at, const at::Tensor& text, double t) {
    const at::Tensor time = at::tensor(static_cast<float>(t));
    const at::Tensor e = UNetForward(base.unet_config, base.unet, at, time, empty);
    return e + scale * (UNetForward(base.unet_config, base.unet, at, time, text) - e);
  };
  at::Tensor both = at::cat({x, x});
  at::Tensor u = x, s = x;
  for (int64_t i = 0; i < kSteps; ++i) {
    const double t = first->timesteps()[i];
    x = (1 - w) * first->Step(predict(x, states, t), i, x) +
        w * second->Step(predict(x, safe, t), i, x);
  }
  const at::Tensor latent = DrawWith({{"w", w}}, prompts).latents;
  CHECK(Distance(latent, x) < 1e-5);
  CHECK(Distance(DrawWith({{"w", w}, {"blend", "noise"}}, prompts).latents, x) < 1e-5);
  CHECK(Distance(DrawWith({{"w", w}, {"blend", "x0"}}, prompts).latents, x) < 1e-5);

  // Independent: the safe stream never hears of the prompt's.
  const std::unique_ptr<Sampler> third = MakeSampler(base.scheduler, kSteps),
                                 fourth = MakeSampler(base.scheduler, kSteps);
  for (int64_t i = 0; i < kSteps; ++i) {
    const double t = third->timesteps()[i];
    const at::Tensor next = fourth->Step(predict(s, safe, t), i, s);
    u = third->Step(predict(u, states, t), i, u);
    if (i >= 2) u = (1 - w) * u + w * next;
    s = next;
  }
  const Drawing independent =
      DrawWith({{"w", w}, {"tau_gc", 0.4}, {"streams", "independent"}}, prompts);
  CHECK(Distance(independent.latents, u) < 1e-5);
  CHECK(Distance(independent.latents, latent) > 1e-3);
}

TEST_CASE("latent_blend: whole runs as diffusers' parts make them") {
  const NoGrad no_grad;
  const Backbone base = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  const StateDict reference = LoadSafetensors(RepoFile("tests/fixtures/latent_blend.safetensors"));
  using Quantity = BlendSettings::Quantity;
  using Schedule = BlendSettings::Schedule;
  SamplerSpec spec;
  spec.scheduler = "ddim";
  spec.steps = 6;
  int compared = 0;
  const auto compare = [&](const std::string& name, BlendSettings settings, Quantity quantity) {
    INFO(name);
    settings.quantity = quantity;
    const auto hooks = MakeBlendHooks(settings, SafeText(reference.Get("safe_states")), {}, {});
    const at::Tensor drawn =
        SampleLatents(base, hooks.get(), reference.Get("prompt_states"),
                      reference.Get("empty_states"), reference.Get("latents"), spec);
    CHECK(Distance(drawn, reference.Get(name)) < 1e-5);
    ++compared;
  };
  for (const auto& [word, quantity] : {std::pair{"latent", Quantity::kLatent},
                                       {"x0", Quantity::kX0},
                                       {"noise", Quantity::kNoise}}) {
    const std::string sum = word;
    BlendSettings settings;
    settings.weight = 0.4;
    compare("coupled_" + sum + "_0.4_0.0", settings, quantity);
    settings.independent = true;
    settings.global_context = 0.34;
    compare("independent_" + sum + "_0.4_0.34", settings, quantity);
    settings.weight = 0.6;
    settings.global_context = 0;
    settings.renormalise = true;
    settings.schedule = Schedule::kCosine;
    compare("independent_" + sum + "_0.6_0.0_cosine_renormalised", settings, quantity);
    if (quantity == Quantity::kLatent) continue;
    settings.independent = false;
    settings.global_context = 0.5;
    settings.schedule = Schedule::kLinear;
    compare("coupled_" + sum + "_0.6_0.5_linear_renormalised", settings, quantity);
  }
  CHECK(compared == 11);
}

TEST_CASE("latent_blend: schedules, sums and deviations by hand") {
  BlendSettings settings;
  settings.weight = 0.8;
  CHECK(BlendWeight(settings, 0, 4) == 0.8);
  settings.schedule = BlendSettings::Schedule::kLinear;
  CHECK(BlendWeight(settings, 0, 4) == Approx(0.2));
  CHECK(BlendWeight(settings, 3, 4) == Approx(0.8));
  settings.schedule = BlendSettings::Schedule::kCosine;
  CHECK(BlendWeight(settings, 1, 4) == Approx(0.4));  // cos(pi / 2) = 0
  CHECK(BlendWeight(settings, 3, 4) == Approx(0.8));

  // (4, -4) and (2, 2) cancel their difference: halves (3, -1), mean 1, deviation 2; the streams'
  // deviations are 4 and 0, so 2 is wanted: unchanged. (4, -4) and (-4, 4) cancel altogether at w =
  // 1/2; at 1/4 they leave (2, -2) where deviation 4 is wanted.
  const auto row = [](float a, float b) { return at::tensor({a, b}).reshape({1, 1, 1, 2}); };
  const at::Tensor half = at::tensor({0.5f}), quarter = at::tensor({0.25f});
  CHECK(BlendStreams(row(4, -4), row(2, 2), half, false).equal(row(3, -1)));
  CHECK(BlendStreams(row(4, -4), row(2, 2), half, true).allclose(row(3, -1)));
  CHECK(BlendStreams(row(4, -4), row(-4, 4), quarter, false).equal(row(2, -2)));
  CHECK(BlendStreams(row(4, -4), row(-4, 4), quarter, true).allclose(row(4, -4)));
  CHECK(BlendStreams(row(4, -4), row(-4, 4), half, true).equal(row(0, 0)));  // nothing to scale

  // Unlike streams of noise: the deviation returns to 1.
  const at::Tensor a = Noise(2).narrow(0, 0, 1), b = Noise(2).narrow(0, 1, 1);
  const auto deviation = [](const at::Tensor& x) { return x.std(false).item<double>(); };
  CHECK(deviation(BlendStreams(a, b, half, false)) < 0.8);
  CHECK(deviation(BlendStreams(a, b, half, true)) ==
        Approx((deviation(a) + deviation(b)) / 2).epsilon(1e-5));
}

TEST_CASE("latent_blend: the ends of the scale on the emoji backbone") {
  if (!HaveModels()) {
    WARN("models/emoji is not there; nothing was drawn.");
    return;
  }
  const NoGrad no_grad;
  const Backbone base = LoadBackbone(RepoFile("models/emoji"));
  Concept subject = TinyConcept();
  const std::vector<std::string> prompts = {"a poodle", "a red apple"};
  const Drawing plain = Draw(base, nullptr, prompts);
  const auto draw = [&](const Json& params) {
    return Draw(base, Blend(params, base, subject).hooks.get(), prompts);
  };
  const Drawing gated = draw({{"w", 0.5}, {"detectors", "text"}});
  CHECK(Distance(gated.latents[0], plain.latents[0]) > 0.01);
  CHECK(Distance(gated.latents[1], plain.latents[1]) < 1e-5);
  CHECK(draw({{"w", 0}}).latents.equal(plain.latents));
  const Drawing silent = draw({{"w", 0.5}, {"detectors", "text"}, {"text_threshold", 2}});
  CHECK(silent.latents.equal(plain.latents));
  CHECK(silent.evaluations == plain.evaluations);
  CHECK(draw({{"w", 1}}).latents.equal(Draw(base, nullptr, {"dog", "dog"}).latents));
}

TEST_CASE("latent_blend: attacks see through it") {
  const Backbone base = TinyBackbone();
  const auto hooks = [&](const Json& params) { return Blend(params, base).hooks; };
  const at::Tensor states = States(base, {"a picture of a poodle", "a picture of a cat"});
  const at::Tensor safe = States(base, {"dog"});
  const at::Tensor view = hooks({{"w", 0.25}})->TextView(Text(states));
  CHECK(view.allclose(0.75 * states + 0.25 * safe));
  CHECK_FALSE(hooks({{"w", 0}})->TextView(Text(states)).defined());
  CHECK_FALSE(hooks({{"w", 0.25}})->TextMargin(Text(states)).defined());
  const auto gated = hooks({{"w", 0.25}, {"detectors", "text"}, {"text_threshold", 0.01}});
  CHECK(gated->TextView(Text(states))[0].allclose(view[0]));
  CHECK(gated->TextView(Text(states))[1].equal(states[1]));
  const at::Tensor margin = gated->TextMargin(Text(states));
  CHECK(margin[0].item<double>() > 0);
  CHECK(margin[1].item<double>() < 0);
  CHECK((hooks({{"detectors", "text"}})->TextMargin(Text(states)) - margin).mean().item<double>() ==
        Approx(0.01).margin(1e-6));

  // Gradients reach the prompt, through the blend and through the margin.
  const at::Tensor leaf = states.detach().requires_grad_(true);
  CHECK(Gradients(gated->TextMargin(Text(leaf)).sum(), {leaf})[0].norm().item<double>() > 0);
  for (const char* streams : {"coupled", "independent"}) {
    for (const char* quantity : {"latent", "x0"}) {
      GuidanceBatch batch{leaf, States(base, {"", ""}), 3, kSteps};
      const auto blend =
          hooks({{"w", 0.5}, {"streams", streams}, {"blend", quantity}, {"renormalise", true}});
      const std::unique_ptr<Sampler> sampler = MakeSampler(base.scheduler, kSteps);
      const auto run = blend->Start(batch);
      const at::Tensor noise =
          PredictNoise(base, *run, batch, base.scheduler, *sampler, 3, Noise(2));
      CHECK(noise.sizes() == at::IntArrayRef({2, 4, 8, 8}));
      const at::Tensor gradient = Gradients(noise.square().sum(), {leaf})[0];
      CHECK(gradient.isfinite().all().item<bool>());
      CHECK(gradient.norm().item<double>() > 0);
    }
  }

  // A late step by itself has no history: the latent detector counts as having fired.
  const NoGrad no_grad;
  GuidanceBatch batch{states, States(base, {"", ""}), 3, kSteps};
  const auto late = hooks({{"w", 0.5}, {"detectors", "latent"}, {"latent_threshold", 100}});
  CHECK(late->Start(batch)->Rows(batch, 4).size() == 3);
  CHECK(late->Start(batch)->Rows(batch, 0).size() == 2);
}

TEST_CASE("latent_blend: Safe-CLIP reads the prompt itself") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const std::filesystem::path folder = TestFolder("latent_blend_safe_clip");
  const ClipModel tuned = TinyClip(99);
  SaveTextEncoder(folder / "text_encoder", tuned);
  Backbone swapped = base;
  swapped.text_encoder = tuned.weights;

  const Erased erased = Blend({{"w", 1}, {"safe", "safe_clip"}, {"safe_clip", folder}}, base);
  const std::vector<std::string> prompts = {"a poodle", "a cat"};
  const at::Tensor ids = TokenizeBatch(*base.tokenizer, prompts, 16);
  const at::Tensor states = EncodeText(base, ids), empty = States(base, {"", ""});
  SamplerSpec spec;
  spec.steps = kSteps;
  const at::Tensor drawn =
      SampleLatents(base, erased.hooks.get(), states, empty, Noise(2), spec, nullptr, nullptr, ids);
  const at::Tensor wanted =
      SampleLatents(base, nullptr, EncodeText(swapped, ids), empty, Noise(2), spec);
  CHECK(drawn.equal(wanted));
  // An attack that reads text sees that reading, as the U-Net gets it at w = 1.
  const at::Tensor own = ClipTokenEmbeddings(base.text_encoder, ids);
  CHECK(erased.hooks->TextView({ids, own, states, {}})
            .equal(ClipTextForward(tuned.config.text, tuned.weights, own, ids).last_hidden_state));
  CHECK_THROWS_WITH(SampleLatents(base, erased.hooks.get(), states, empty, Noise(2), spec),
                    Catch::Contains("prompt_ids"));
  // An attack that moves the tokens' embeddings moves the safe reading, too.
  GuidanceBatch batch{states, empty, 3, kSteps, ids};
  batch.prompt_embeddings = ClipTokenEmbeddings(base.text_encoder, ids) * 1.5;
  CHECK(erased.hooks->Start(batch)->Rows(batch, 0)[1].equal(
      ClipTextForward(tuned.config.text, tuned.weights, batch.prompt_embeddings, ids)
          .last_hidden_state));

  ClipModel wide = TinyClip();
  wide.config.text.hidden_size = 24;
  wide.config.text.num_attention_heads = 2;
  wide.weights = InitClip(wide.config, 1);
  SaveTextEncoder(folder / "wide", wide);
  CHECK_THROWS_WITH(Blend({{"safe", "safe_clip"}, {"safe_clip", folder / "wide"}}, base),
                    Catch::Contains("a width of 24") && Catch::Contains("has 16"));
  CHECK_THROWS_WITH(Blend({{"safe", "safe_clip"}}, base), Catch::Contains("parameter safe_clip"));
}

TEST_CASE("latent_blend: what cannot be meant is refused") {
  const Backbone base = TinyBackbone();
  for (const char* field : {"w", "tau_gc"}) {
    for (const double value : {-0.01, 1.01}) {
      CHECK_THROWS_WITH(Blend({{field, value}}, base), Catch::Contains(field));
    }
  }
  CHECK_THROWS_WITH(Blend({{"text_threshold", 3}}, base), Catch::Contains("text_threshold"));
  CHECK_THROWS_WITH(Blend({{"safe", "text"}, {"safe_text", " "}}, base),
                    Catch::Contains("safe_text is empty"));
  CHECK_THROWS_WITH(Blend({{"streams", "independent"}, {"detectors", "either"}}, base),
                    Catch::Contains("coupled"));
  CHECK_THROWS_WITH(Blend({{"streams", "independent"}, {"blend", "nearest"}}, base),
                    Catch::Contains("resembles") && Catch::Contains("coupled"));
  Concept subject = TinyConcept();
  subject.anchor = "";
  CHECK_THROWS_WITH(Blend({{"safe", "anchor"}}, base, subject), Catch::Contains("no anchor"));
  CHECK_THROWS_WITH(Blend({{"safe", "text"}, {"detectors", "text"}}, base, subject),
                    Catch::Contains("needs an anchor"));
  subject.anchor = "poodle";
  CHECK_THROWS_WITH(Blend({{"detectors", "text"}}, base, subject), Catch::Contains("anchor"));
}

TEST_CASE("latent_blend: hooks come back from what is stored") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const Json params = {{"w", 0.5}, {"tau_gc", 0}, {"detectors", "either"}, {"blend", "latent"}};
  TinyContext context;
  const Erased erased = Blend(params, base, TinyConcept(), &context);
  CHECK(context.unet_evaluations > 0);
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("latent_blend");
  DecodeParams(params, *method, "test");
  const auto restored = method->RestoreHooks(base, {TinyConcept()}, erased.hook_state);
  const std::vector<std::string> prompts = {"a picture of a poodle", "a picture of a cat"};
  const Drawing first = Draw(base, erased.hooks.get(), prompts);
  const Drawing second = Draw(base, restored.get(), prompts);
  CHECK(first.latents.equal(second.latents));
  for (const char* name : {"text_detector", "latent_detector"}) {
    CHECK(first.detected.at(name).scores.equal(second.detected.at(name).scores));
  }
  CHECK(Blend({{"w", 0.5}}, base).hook_state.size() == 0);
}

}  // namespace excise
