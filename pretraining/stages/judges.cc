// The reporting judge and the attack oracle: the same task, different architectures, seeds and
// data streams. Trained on real scenes and on garbage, with blur and noise, because what they will
// judge is drawn by a model and not by a font.
#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/where.h>

#include "models/nets/judge_net.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "pretraining/stages/recipe.h"
#include "pretraining/stages/scenes.h"
#include "pretraining/stages/stage_util.h"
#include "training/trainer.h"

namespace excise {
namespace {

// A third of the pictures are blurred (as a decoder blurs) and a third get noise.
at::Tensor Degrade(const at::Tensor& images, const StreamKey& key) {
  Philox rng(key);
  at::Tensor result = images.clone();
  const int64_t size = images.size(2);
  for (int64_t i = 0; i < images.size(0); ++i) {
    at::Tensor image = result.narrow(0, i, 1);
    const double draw = rng.Uniform();
    if (draw < 0.33) {
      const int64_t factor = rng.Uniform() < 0.7 ? 2 : 4;
      image.copy_(at::upsample_bilinear2d(at::avg_pool2d(image, {factor, factor}), {size, size},
                                          /*align_corners=*/false));
    } else if (draw < 0.66) {
      at::Tensor noise = at::empty_like(image);
      rng.FillNormal(noise.data_ptr<float>(), static_cast<size_t>(noise.numel()));
      image.add_(noise, rng.Uniform(0.0, 0.08)).clamp_(0, 1);
    }
  }
  return result;
}

JudgeConfig ConfigOf(const Workshop& shop, const std::string& stage) {
  JudgeConfig config;
  if (stage == "oracle") {
    config.architecture = "plain";
    config.channels = {32, 64, 96, 128};
  }
  config.num_classes = static_cast<int64_t>(shop.world->classes().size());
  for (const EmojiClass& emoji : shop.world->classes()) config.class_ids.push_back(emoji.id);
  return config;
}

}  // namespace

void TrainJudgeStage(const Workshop& shop, const Stage& stage) {
  const Recipe& recipe = shop.recipe;
  const JudgeConfig config = ConfigOf(shop, stage.name);
  const uint64_t seed = recipe.seed + (stage.name == "oracle" ? 1000 : 0);
  const StateDict initial = InitJudge(config, seed);
  TrainSpec spec = StageSpec(
      shop, stage.name, stage.name == "oracle" ? recipe.oracle_steps : recipe.judge_steps, 3e-3);
  spec.optimizer.weight_decay = 0.05;
  spec.clip_norm = 5;
  SceneRequest request{seed, "train/" + stage.name, recipe.judge_batch, 0.25, nullptr, nullptr};
  Prefetch<SceneBatch> scenes([&](int64_t step) {
    SceneBatch batch = MakeScenes(*shop.world, request, step);
    batch.images = Degrade(batch.images, {seed, request.id + "/degrade", 0, Stream::kData,
                                          static_cast<uint64_t>(step)});
    return batch;
  });
  auto loss = [&](const StateDict& weights, int64_t step, int64_t) {
    const SceneBatch batch = scenes.Get(step);
    Autocast autocast(recipe.bf16);
    const JudgeOutput out = JudgeForward(config, weights, batch.images, /*training=*/true);
    const at::Tensor by_class =
        at::cross_entropy_loss(out.class_logits.to(at::kFloat), batch.classes, {},
                               at::Reduction::Mean, -100, /*label_smoothing=*/0.02);
    // Garbage has no style: its label is ignored.
    const at::Tensor styles =
        at::where(batch.classes.eq(config.num_classes), -100, batch.styles).to(at::kLong);
    const at::Tensor by_style =
        at::cross_entropy_loss(out.style_logits.to(at::kFloat), styles, {}, at::Reduction::Mean);
    return by_class + by_style;
  };
  const TrainResult result = Train(initial, TrainableNames(initial), spec, loss);
  WriteModel(shop, stage, JudgeConfigToJson(config), result);
}

}  // namespace excise
