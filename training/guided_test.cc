#include "training/guided.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "models/nets/unet.h"
#include "models/tensors/autograd.h"
#include "tests/testdata.h"

namespace excise {
namespace {

Backbone Model() { return LoadBackbone(RepoFile("tests/fixtures/sd1")); }

at::Tensor Normal(at::IntArrayRef shape, const std::string& id) {
  at::Tensor values = at::full(shape, 0.0, at::kFloat);
  Philox rng({1, id});
  rng.FillNormal(values.data_ptr<float>(), static_cast<size_t>(values.numel()));
  return values;
}

double Distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace

TEST_CASE("guided predictions by hand, towards a text and away from it") {
  const at::Tensor empty = at::scalar_tensor(1.0), text = at::scalar_tensor(3.0);
  CHECK(GuidedPrediction(empty, text, 3).item<double>() == 7);
  CHECK(GuidedPrediction(empty, text, 0).item<double>() == 1);
  // ESD with eta = 2: 1 - 2 (3 - 1). Its released form is 3 - (2 + 1) (3 - 1), the same.
  CHECK(GuidedPrediction(empty, text, -2).item<double>() == -3);
  // To point away rounds as a difference does.
  const at::Tensor a = Normal({100}, "a"), b = Normal({100}, "b");
  CHECK(GuidedPrediction(a, b, -1.7).equal(a.sub(b.sub(a), 1.7)));
}

TEST_CASE("x0 at a level undoes the noise that was added") {
  const SchedulerConfig config = Model().scheduler;
  const at::Tensor x0 = Normal({1, 4, 2, 2}, "x0").to(at::kDouble);
  const at::Tensor noise = Normal({1, 4, 2, 2}, "noise").to(at::kDouble);
  for (const int64_t t : {0, 500, 999}) {
    const NoiseLevel level = LevelOf(config, t);
    CHECK(level.signal * level.signal + level.noise * level.noise == Approx(1));
    const at::Tensor noised = AddNoise(config, x0, noise, at::tensor({t}, at::kLong));
    CHECK(Distance(level.signal * x0 + level.noise * noise, noised) < 1e-12);
    CHECK(Distance(X0At(level, noised, noise), x0) < 1e-12);
  }
  // Scaled-linear betas from 0.00085: abar of the first timestep is one minus that.
  CHECK(LevelOf(config, 0).signal == Approx(std::sqrt(1 - 0.00085)));
  // Next to no signal: the error of a prediction grows twentyfold at most.
  CHECK(X0At({0.001, 1}, at::scalar_tensor(1.0), at::scalar_tensor(0.5)).item<double>() ==
        Approx(0.5 / kLeastSignal));
}

TEST_CASE("a trajectory is the closed form where the prediction is constant") {
  const NoGrad no_grad;
  const Backbone model = Model();  // its own sampler is PNDM
  StateDict constant;
  for (const auto& [name, tensor] : model.unet) constant.Set(name, at::zeros_like(tensor));
  const at::Tensor epsilon = at::tensor({0.5f, -1.0f, 2.0f, 0.25f}).reshape({1, 4, 1, 1});
  constant.Set("conv_out.bias", epsilon.flatten());

  const GuidedTrajectory trajectory(model, 5);
  REQUIRE(trajectory.steps() == 5);
  const at::Tensor noise = Normal({2, 4, 8, 8}, "start");
  const at::Tensor text = Normal({2, 7, 24}, "text");
  // The noise in all latents is epsilon, so that the picture never changes: x_i = signal_i x0 +
  // noise_i epsilon.
  const at::Tensor x0 = X0At(trajectory.level(0), noise, epsilon);
  std::vector<int64_t> visited;
  const auto visit = [&](int64_t step, const at::Tensor& input,
                         const std::vector<at::Tensor>& predictions) {
    visited.push_back(step);
    const NoiseLevel level = trajectory.level(step);
    CHECK(trajectory.timestep(step) == 801 - 200 * step);
    CHECK(Distance(input, level.signal * x0 + level.noise * epsilon) < 1e-5);
    CHECK(Distance(predictions.at(0), epsilon.expand_as(input)) < 1e-6);
    return predictions[0];
  };
  const at::Tensor third = trajectory.Walk(constant, noise, 3, {text}, visit);
  CHECK(visited == std::vector<int64_t>{0, 1, 2});
  const NoiseLevel level = trajectory.level(3);
  CHECK(Distance(third, level.signal * x0 + level.noise * epsilon) < 1e-5);
  CHECK(trajectory.Walk(constant, noise, 0, {text}, visit).equal(noise));
  // The end of the schedule, which is not quite free of noise (set_alpha_to_one is false).
  const NoiseLevel last = LevelOf(trajectory.scheduler(), 0);
  CHECK(Distance(trajectory.Walk(constant, noise, 5, {text}, visit),
                 last.signal * x0 + last.noise * epsilon) < 1e-5);
}

TEST_CASE("a step shows what each text alone predicts, and a guided walk is a drawing by DDIM") {
  const NoGrad no_grad;
  const Backbone model = Model();
  const at::Tensor noise = Normal({2, 4, 8, 8}, "start"), text = Normal({2, 7, 24}, "text");
  const at::Tensor empty = Normal({1, 7, 24}, "empty");
  const GuidedTrajectory trajectory(model, 4);
  const std::vector<at::Tensor> predictions =
      trajectory.Predict(model.unet, noise, 2, {text, empty, -text});
  REQUIRE(predictions.size() == 3);
  const auto alone = [&](const at::Tensor& states) {
    const at::Tensor time = at::full({}, trajectory.timestep(2), at::kFloat);
    return UNetForward(model.unet_config, model.unet, noise, time, states.expand_as(text));
  };
  CHECK(Distance(predictions[0], alone(text)) < 1e-5);
  CHECK(Distance(predictions[1], alone(empty)) < 1e-5);
  CHECK(Distance(predictions[2], alone(-text)) < 1e-5);
  CHECK(Distance(predictions[0], predictions[1]) > 1e-3);

  const at::Tensor walked =
      trajectory.Walk(model.unet, noise, 4, {empty, text},
                      [](int64_t, const at::Tensor&, const std::vector<at::Tensor>& streams) {
                        return GuidedPrediction(streams[0], streams[1], 2.5);
                      });
  SamplerSpec spec;
  spec.scheduler = "ddim";
  spec.steps = 4;
  spec.guidance_scale = 2.5;
  CHECK(Distance(walked, SampleLatents(model, nullptr, text, empty.expand_as(text), noise, spec)) <
        1e-5);
}

TEST_CASE("gradients pass through a walk, and a schedule that is too short refuses") {
  const Backbone model = Model();
  const GuidedTrajectory trajectory(model, 3);
  const at::Tensor text = Normal({1, 7, 24}, "text").requires_grad_(true);
  const at::Tensor end =
      trajectory.Walk(model.unet, Normal({1, 4, 8, 8}, "start"), 2, {text},
                      [](int64_t, const at::Tensor&, const std::vector<at::Tensor>& streams) {
                        return streams[0];
                      });
  const at::Tensor gradient = Gradients(end.square().sum(), {text})[0];
  CHECK(gradient.isfinite().all().item<bool>());
  CHECK(gradient.norm().item<double>() > 0);
  CHECK_THROWS_AS(GuidedTrajectory(model, 5000), UsageError);
}

TEST_CASE("layer hooks see a walk's rows with a stream a text") {
  const NoGrad no_grad;
  const Backbone model = Model();
  const at::Tensor noise = Normal({2, 4, 8, 8}, "start"), text = Normal({2, 7, 24}, "text");
  const at::Tensor empty = Normal({1, 7, 24}, "empty");
  constexpr const char* kLayer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2";
  // Adds a constant to the second text's answer.
  class Adds : public LayerHooks {
   public:
    void Begin(const RowLayout& rows) override { rows_ = rows; }
    bool WantsLinear(const std::string& name) const override { return name == kLayer; }
    at::Tensor OnLinear(const std::string&, const at::Tensor&, at::Tensor y) override {
      y = y.clone();
      y.narrow(0, rows_.Row(1, 0), rows_.pictures).add_(0.7);
      return y;
    }
    RowLayout rows_;
  } hooks;
  const GuidedTrajectory trajectory(model, 4);
  const std::vector<at::Tensor> predictions =
      trajectory.Predict(model.unet, noise, 3, {empty, text}, &hooks);
  CHECK(hooks.rows_.step == 3);
  CHECK(hooks.rows_.streams == 2);
  CHECK(hooks.rows_.pictures == 2);
  StateDict edited = model.unet;
  const std::string bias = std::string(kLayer) + ".bias";
  edited.Set(bias, edited.Get(bias) + 0.7);
  CHECK(Distance(predictions[0], trajectory.Predict(model.unet, noise, 3, {empty})[0]) < 1e-5);
  CHECK(Distance(predictions[1], trajectory.Predict(edited, noise, 3, {text})[0]) < 1e-5);
  CHECK(Distance(predictions[1], trajectory.Predict(model.unet, noise, 3, {text})[0]) > 1e-4);

  const auto visit = [](int64_t, const at::Tensor&, const std::vector<at::Tensor>& seen) {
    return GuidedPrediction(seen.at(0), seen.at(1), 3);
  };
  const std::vector<at::Tensor> texts = {empty, text};
  const at::Tensor plain = trajectory.Walk(model.unet, noise, 4, texts, visit);
  CHECK(Distance(trajectory.Walk(model.unet, noise, 4, texts, visit, &hooks), plain) > 1e-3);
  CHECK(hooks.rows_.step == 3);
}

}  // namespace excise
