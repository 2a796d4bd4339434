// Layer hooks know whose rows they see (RowLayout).
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <catch2/catch.hpp>

#include "models/nets/nn.h"
#include "models/samplers/samplers.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/autograd.h"
#include "tests/testdata.h"

namespace excise {
namespace {

constexpr const char* kLayer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2";
constexpr double kAdded = 0.7;
constexpr int64_t kPictures = 2;

// Adds a constant to one layer's answer for one picture in one stream.
class AddsToOne : public LayerHooks {
 public:
  AddsToOne(int64_t stream, int64_t picture, std::vector<RowLayout>* begun)
      : stream_(stream), picture_(picture), begun_(*begun) {}
  void Begin(const RowLayout& rows) override { begun_.push_back(rows); }
  bool WantsLinear(const std::string& name) const override { return name == kLayer; }
  at::Tensor OnLinear(const std::string&, const at::Tensor&, at::Tensor y) override {
    const RowLayout& rows = begun_.back();
    CHECK(y.size(0) == rows.streams * rows.pictures);
    at::Tensor changed = y.clone();
    changed[rows.Row(stream_, picture_)] += kAdded;
    return changed;
  }

 private:
  const int64_t stream_, picture_;
  std::vector<RowLayout>& begun_;
};

// A run with `latents` equal latent streams, of which the last one is delivered.
class Run : public HookRun {
 public:
  Run(LayerHooks* layers, int64_t latents) : layers_(layers), latents_(latents) {}
  LayerHooks* Layers() override { return layers_; }
  at::Tensor Fork(at::Tensor latents) override { return latents.repeat({latents_, 1, 1, 1}); }
  at::Tensor Join(at::Tensor latents) override { return latents.chunk(latents_).back(); }
  std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t) override {
    return {batch.empty_states.repeat({latents_, 1, 1}),
            batch.prompt_states.repeat({latents_, 1, 1})};
  }

 private:
  LayerHooks* layers_;
  const int64_t latents_;
};

class RunHooks : public Hooks {
 public:
  explicit RunHooks(LayerHooks* layers) : layers_(layers) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<Run>(layers_, 1);
  }

 private:
  LayerHooks* layers_;
};

struct Scene {
  Backbone model = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  at::Tensor prompt = nn::InitNormal({kPictures, 7, 24}, 1, 1, "prompt");
  at::Tensor empty = nn::InitNormal({kPictures, 7, 24}, 1, 1, "empty");
  at::Tensor latents = nn::InitNormal({kPictures, 4, 8, 8}, 1, 1, "latents");

  // One guided step under `run`.
  at::Tensor Step(HookRun& run, int64_t step) const {
    const SchedulerConfig scheduler = WithScheduler(model.scheduler, "ddim");
    const std::unique_ptr<Sampler> sampler = MakeSampler(scheduler, 4);
    return PredictNoise(model, run, {prompt, empty, 3.0, 4}, scheduler, *sampler, step, latents);
  }
  // The same written out; the layer's bias is larger for the empty text or for the prompt.
  at::Tensor Written(int64_t step, bool edit_empty, bool edit_prompt) const {
    const SchedulerConfig scheduler = WithScheduler(model.scheduler, "ddim");
    const double t = MakeSampler(scheduler, 4)->timesteps().at(static_cast<size_t>(step));
    const auto predict = [&](const at::Tensor& states, bool edit) {
      StateDict unet = model.unet;
      const std::string bias = std::string(kLayer) + ".bias";
      if (edit) unet.Set(bias, unet.Get(bias) + kAdded);
      return UNetForward(model.unet_config, unet, latents, at::full({}, t, at::kFloat), states);
    };
    const at::Tensor away = predict(empty, edit_empty);
    return away + 3.0 * (predict(prompt, edit_prompt) - away);
  }
};

double Distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace

TEST_CASE("a layer hook acts on the prompt's stream of one picture alone") {
  const NoGrad no_grad;
  const Scene scene;
  std::vector<RowLayout> begun;
  AddsToOne hooks(/*stream=*/1, /*picture=*/1, &begun);
  Run run(&hooks, 1);
  const at::Tensor step = scene.Step(run, 2);
  REQUIRE(begun.size() == 1);
  CHECK(begun[0].step == 2);
  CHECK(begun[0].streams == 2);
  CHECK(begun[0].pictures == kPictures);
  const at::Tensor plain = scene.Written(2, false, false), edited = scene.Written(2, false, true);
  CHECK(Distance(plain[1], edited[1]) > 1e-3);
  CHECK(Distance(step[0], plain[0]) < 1e-5);
  CHECK(Distance(step[1], edited[1]) < 1e-5);

  AddsToOne other(/*stream=*/0, /*picture=*/0, &begun);
  Run other_run(&other, 1);
  const at::Tensor empty = scene.Step(other_run, 1);
  CHECK(Distance(empty[0], scene.Written(1, true, false)[0]) < 1e-5);
  CHECK(Distance(empty[1], scene.Written(1, false, false)[1]) < 1e-5);
}

TEST_CASE("latent streams lie inside a text's stream") {
  const NoGrad no_grad;
  const Scene scene;
  std::vector<RowLayout> begun;
  // Text streams {empty, prompt}, latent streams {0, 1}: the prompt's on the second latents is 3.
  AddsToOne hooks(/*stream=*/3, /*picture=*/1, &begun);
  Run run(&hooks, 2);
  const at::Tensor step = scene.Step(run, 0);
  CHECK(begun.at(0).streams == 4);
  CHECK(begun.at(0).pictures == kPictures);
  CHECK(Distance(step[0], scene.Written(0, false, false)[0]) < 1e-5);
  CHECK(Distance(step[1], scene.Written(0, false, true)[1]) < 1e-5);
  // The first latents are not delivered.
  AddsToOne first(/*stream=*/2, /*picture=*/1, &begun);
  Run first_run(&first, 2);
  CHECK(Distance(scene.Step(first_run, 0), scene.Written(0, false, false)) < 1e-5);
}

TEST_CASE("a drawing says before every call of the U-Net whose rows come") {
  const NoGrad no_grad;
  const Scene scene;
  std::vector<RowLayout> begun;
  AddsToOne layers(1, 1, &begun);
  const RunHooks hooks(&layers);
  SamplerSpec spec;
  spec.steps = 3;
  spec.scheduler = "ddim";
  const auto draw = [&](const Hooks* under) {
    return SampleLatents(scene.model, under, scene.prompt, scene.empty, scene.latents, spec);
  };
  const at::Tensor hooked = draw(&hooks), plain = draw(nullptr);
  REQUIRE(begun.size() == 3);
  for (int64_t step = 0; step < 3; ++step) {
    CHECK(begun[static_cast<size_t>(step)].step == step);
    CHECK(begun[static_cast<size_t>(step)].streams == 2);
  }
  CHECK(Distance(hooked[0], plain[0]) < 1e-4);
  CHECK(Distance(hooked[1], plain[1]) > 1e-2);
}

TEST_CASE("latents that do not go round are refused where layers are hooked") {
  const NoGrad no_grad;
  // Three latents of two pictures.
  class Uneven : public Run {
   public:
    using Run::Run;
    at::Tensor Fork(at::Tensor latents) override {
      return at::cat({latents, latents.narrow(0, 0, 1)});
    }
    std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t) override {
      return {at::cat({batch.prompt_states, batch.prompt_states.narrow(0, 0, 1)})};
    }
  };
  const Scene scene;
  std::vector<RowLayout> begun;
  AddsToOne hooks(0, 0, &begun);
  Uneven run(&hooks, 1);
  CHECK_THROWS_WITH(scene.Step(run, 0), Catch::Contains("3 latents of 2 pictures"));
}

}  // namespace excise
