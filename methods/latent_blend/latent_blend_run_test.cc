// blend=nearest: predictions are summed for a while, then each picture is drawn by the stream that
// it resembles. Against the same walk spelled out, and distances worked by hand.
#include "methods/latent_blend/latent_blend_run.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

constexpr int64_t kSteps = 5;
const std::vector<std::string> kPrompts = {
    "a poodle", "a cat", "a picture of a poodle", "a picture of a cat", "a dog and a cat", "a"};

at::Tensor States(const Backbone& base, const std::vector<std::string>& texts) {
  return EncodeText(base,
                    TokenizeBatch(*base.tokenizer, texts, base.clip.text.max_position_embeddings));
}

at::Tensor Noise(int64_t n) {
  at::Tensor x = at::empty({n, 4, 8, 8}, at::kFloat);
  Philox rng({1, "test"});
  rng.FillNormal(x.data_ptr<float>(), x.numel());
  return x;
}

BlendSettings Nearest(double weight, double settle_at, double global_context = 0) {
  BlendSettings settings;
  settings.quantity = BlendSettings::Quantity::kNearest;
  settings.weight = weight;
  settings.settle_at = settle_at;
  settings.global_context = global_context;
  return settings;
}

struct Drawing {
  at::Tensor latents;
  int64_t evaluations = 0;
};

Drawing Draw(const Backbone& base, const Hooks* hooks, const std::vector<std::string>& prompts,
             double guidance = 3) {
  const at::Tensor states = States(base, prompts);
  SamplerSpec spec;
  spec.steps = kSteps;
  spec.guidance_scale = guidance;
  Drawing drawing;
  drawing.latents = SampleLatents(base, hooks, states, States(base, {""}).expand_as(states),
                                  Noise(states.size(0)), spec, &drawing.evaluations);
  return drawing;
}

Drawing DrawWith(const BlendSettings& settings, double guidance = 3) {
  const Backbone base = TinyBackbone();
  const auto hooks = MakeBlendHooks(settings, SafeText(States(base, {"dog"})), {}, {});
  return Draw(base, hooks.get(), kPrompts, guidance);
}

double Distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

}  // namespace

TEST_CASE("blend=nearest: which stream a picture resembles, by hand") {
  // Distances to the empty prompt's prediction: 5 and 4; 5 and 5; 3 and sqrt(2) * 4.
  const auto rows = [](const at::Tensor& values) { return values.reshape({3, 1, 1, 2}); };
  const at::Tensor empty = rows(at::tensor({1.f, 1.f, 0.f, 0.f, -1.f, 2.f}));
  const at::Tensor prompt = rows(at::tensor({4.f, 5.f, 3.f, 4.f, -1.f, 5.f}));
  const at::Tensor safe = rows(at::tensor({1.f, 5.f, -5.f, 0.f, 3.f, 6.f}));
  CHECK(NearerToSafe(empty, prompt, safe).equal(at::tensor({1, 0, 0}).to(at::kBool)));
  CHECK(NearerToSafe(empty, safe, prompt).equal(at::tensor({0, 0, 1}).to(at::kBool)));
}

TEST_CASE("blend=nearest: sums, settles each picture once, and draws it by that stream") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const auto n = static_cast<int64_t>(kPrompts.size());
  const at::Tensor states = States(base, kPrompts), safe = States(base, {"dog"}).expand_as(states),
                   empty = States(base, {""}).expand_as(states);
  const double w = 0.3, scale = 3;
  // The prompts alone at step 0, sums at steps 1 and 2, settled at step 3 of 5.
  const std::unique_ptr<Sampler> sampler = MakeSampler(base.scheduler, kSteps);
  at::Tensor x = Noise(n);
  std::vector<bool> takes_safe;
  for (int64_t i = 0; i < kSteps; ++i) {
    const auto predict = [&](const at::Tensor& text) {
      const at::Tensor time = at::tensor(static_cast<float>(sampler->timesteps()[i]));
      return UNetForward(base.unet_config, base.unet, x, time, text);
    };
    const at::Tensor e = predict(empty), u = predict(states), s = predict(safe);
    std::vector<at::Tensor> noise;
    for (int64_t k = 0; k < n; ++k) {
      if (i == 3) {
        takes_safe.push_back((s[k] - e[k]).norm().item<double>() <
                             (u[k] - e[k]).norm().item<double>());
      }
      const double share = i == 0 ? 0 : i < 3 ? w : takes_safe[k] ? 1 : 0;
      noise.push_back(e[k] + scale * ((1 - share) * u[k] + share * s[k] - e[k]));
    }
    x = sampler->Step(at::stack(noise), i, x);
  }
  // Both happen here, else the test would show half of it.
  REQUIRE(std::count(takes_safe.begin(), takes_safe.end(), true) > 0);
  REQUIRE(std::count(takes_safe.begin(), takes_safe.end(), false) > 0);
  const Drawing drawing = DrawWith(Nearest(w, 0.5, 0.2));
  CHECK(Distance(drawing.latents, x) < 1e-5);
  // Two rows a picture at first, three until it has settled, then two.
  CHECK(drawing.evaluations == n * (2 + 3 * 3 + 2));
  // Without guidance the empty prompt is asked for at the step that settles alone.
  CHECK(DrawWith(Nearest(w, 0.5, 0.2), 1).evaluations == n * (1 + 2 * 2 + 3 + 1));
}

TEST_CASE("blend=nearest: the ends are one stream, and a window of all steps is the sum") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const Drawing plain = Draw(base, nullptr, kPrompts);
  for (const double settle_at : {0.0, 0.5, 1.0}) {
    INFO(settle_at);
    const Drawing none = DrawWith(Nearest(0, settle_at)), all = DrawWith(Nearest(1, settle_at));
    CHECK(none.latents.equal(plain.latents));
    CHECK(none.evaluations == plain.evaluations);
    CHECK(all.latents.equal(
        Draw(base, nullptr, std::vector<std::string>(kPrompts.size(), "dog")).latents));
    CHECK(DrawWith(Nearest(0.5, settle_at, 1)).latents.equal(plain.latents));
  }
  BlendSettings sum = Nearest(0.4, 1);
  const at::Tensor nearest = DrawWith(sum).latents;
  sum.quantity = BlendSettings::Quantity::kNoise;
  CHECK(nearest.equal(DrawWith(sum).latents));
}

TEST_CASE("a drawing that begins behind the detector's step is read where it begins") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const auto detector = LatentDetector::Fit(LatentDetector::Features(Noise(4)),
                                            {true, false, true, false}, 1, /*position=*/0.2);
  REQUIRE(detector.StepOf(kSteps) == 1);
  const auto hooks = MakeBlendHooks(BlendSettings{}, SafeText(States(base, {"dog"})), {}, detector);
  const auto scored = [&](int64_t first, int64_t step) {
    GuidanceBatch batch{States(base, kPrompts), States(base, {""}), 3, kSteps};
    batch.first_step = first;
    const std::unique_ptr<HookRun> run = hooks->Start(batch);
    StepPoint point;
    point.step = step;
    point.input = Noise(static_cast<int64_t>(kPrompts.size()));
    point.signal = 0.8;
    point.noise = 0.6;
    run->Observe(point, {point.input, point.input});
    return run->Detected().count("latent_detector") == 1;
  };
  CHECK(scored(0, 1));
  CHECK_FALSE(scored(0, 2));
  CHECK(scored(2, 2));
  CHECK_FALSE(scored(2, 1));
}

TEST_CASE("blend=nearest: a step by itself settles by what it sees, and gradients pass") {
  const Backbone base = TinyBackbone();
  const auto hooks =
      MakeBlendHooks(Nearest(0.5, 0.4), SafeText(States(base, {"dog"}).detach()), {}, {});
  const at::Tensor leaf = States(base, kPrompts).detach().requires_grad_(true);
  const GuidanceBatch batch{leaf, States(base, {""}).expand_as(leaf), 3, kSteps};
  const std::unique_ptr<Sampler> sampler = MakeSampler(base.scheduler, kSteps);
  const std::unique_ptr<HookRun> run = hooks->Start(batch);
  CHECK(run->Rows(batch, 4).size() == 3);
  const at::Tensor noise =
      PredictNoise(base, *run, batch, base.scheduler, *sampler, 4, Noise(leaf.size(0)));
  CHECK(run->Rows(batch, 4).size() == 2);  // settled
  const at::Tensor gradient = Gradients(noise.square().sum(), {leaf})[0];
  CHECK(gradient.isfinite().all().item<bool>());
  CHECK(gradient.norm().item<double>() > 0);
}

}  // namespace excise
