// The reporting judge and the networks of the attacks' oracle: the same task, different
// architectures, widths, seeds and data streams. Trained on real scenes and on garbage, with blur
// and noise, because what they will judge is drawn by a model and not by a font; the oracle, which
// searches put to the test, also on what models draw (oracle_pictures.cc).
#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/replication_pad2d.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/where.h>

#include "core/text.h"
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

// Which of the oracle's networks the stage trains, or -1: the reporting judge.
int64_t OracleIndex(const Stage& stage) {
  return StartsWith(stage.name, "oracle_") ? stage.name.back() - '0' : -1;
}

JudgeConfig ConfigOf(const Workshop& shop, int64_t oracle) {
  static const std::vector<int64_t> kWidths[] = {
      {32, 64, 96, 128}, {24, 48, 96, 128}, {16, 48, 96, 160}};
  JudgeConfig config;
  if (oracle >= 0) {
    config.architecture = "plain";
    config.channels = kWidths[oracle];
  }
  config.num_classes = static_cast<int64_t>(shop.world->classes().size());
  for (const EmojiClass& emoji : shop.world->classes()) config.class_ids.push_back(emoji.id);
  return config;
}

struct JudgeBatch {
  at::Tensor images, classes, styles;  // -100: unknown, or garbage's style
  at::Tensor not_classes, not_styles;  // 1: ruled out; of the last rows, or undefined
};

JudgeBatch OfScenes(const Workshop& shop, const SceneRequest& request, int64_t step) {
  const SceneBatch scenes = MakeScenes(*shop.world, request, static_cast<uint64_t>(step));
  const auto garbage = static_cast<int64_t>(shop.world->classes().size());
  JudgeBatch batch;
  batch.images = scenes.images;
  batch.classes = scenes.classes;
  batch.styles = at::where(scenes.classes.eq(garbage), -100, scenes.styles).to(at::kLong);
  return batch;
}

// `count` of the oracle's pictures, half of them such that something is ruled out of, each moved by
// up to 3 pixels, its border repeated.
JudgeBatch OfPictures(const StateDict& all, int64_t count, const StreamKey& key) {
  Philox rng(key);
  const at::Tensor unknown =
      all.Get("classes").lt(0).logical_and(all.Get("styles").lt(0)).to(at::kByte).contiguous();
  std::vector<int64_t> of_kind[2];
  for (int64_t i = 0; i < unknown.size(0); ++i) {
    of_kind[unknown.data_ptr<uint8_t>()[i]].push_back(i);
  }
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<int64_t>& kind = of_kind[i % 2];
    rows.push_back(kind[rng.Below(kind.size())]);
  }
  const at::Tensor index = at::tensor(rows, at::kLong);
  const at::Tensor whole = all.Get("pictures").index_select(0, index).to(at::kFloat).div(255);
  const int64_t size = whole.size(2), most = 3;
  const at::Tensor padded = at::replication_pad2d(whole, {most, most, most, most});
  JudgeBatch batch;
  batch.images = at::empty_like(whole);
  for (int64_t i = 0; i < count; ++i) {
    const auto down = static_cast<int64_t>(rng.Below(2 * most + 1));
    const auto right = static_cast<int64_t>(rng.Below(2 * most + 1));
    batch.images[i].copy_(padded[i].narrow(1, down, size).narrow(2, right, size));
  }
  batch.classes = all.Get("classes").index_select(0, index);
  batch.styles = all.Get("styles").index_select(0, index);
  batch.not_classes = all.Get("not_classes").index_select(0, index);
  batch.not_styles = all.Get("not_styles").index_select(0, index);
  return batch;
}

// `first`, and behind it `second`, whose rulings-out are kept.
JudgeBatch Joined(const JudgeBatch& first, JudgeBatch second) {
  second.images = at::cat({first.images, second.images});
  second.classes = at::cat({first.classes, second.classes});
  second.styles = at::cat({first.styles, second.styles});
  return second;
}

// -log(1 - probability of what is ruled out), over the rows of which anything is.
at::Tensor RuledOutLoss(const at::Tensor& logits, const at::Tensor& ruled_out) {
  const at::Tensor wrong = (at::softmax(logits, 1) * ruled_out).sum(1);
  const at::Tensor rows = ruled_out.sum(1).gt(0).sum().clamp_min(1);
  return -(1 - wrong).clamp_min(1e-4).log().sum() / rows;
}

at::Tensor JudgeLoss(const JudgeConfig& config, const StateDict& weights, const JudgeBatch& batch) {
  const JudgeOutput out = JudgeForward(config, weights, batch.images, /*training=*/true);
  const at::Tensor of_classes = out.class_logits.to(at::kFloat);
  const at::Tensor of_styles = out.style_logits.to(at::kFloat);
  const at::Tensor known =
      at::cross_entropy_loss(of_classes, batch.classes, {}, at::Reduction::Mean, -100,
                             /*label_smoothing=*/0.02) +
      at::cross_entropy_loss(of_styles, batch.styles, {}, at::Reduction::Mean);
  if (!batch.not_classes.defined()) return known;
  const int64_t first = batch.images.size(0) - batch.not_classes.size(0);
  const int64_t count = batch.not_classes.size(0);
  return known + RuledOutLoss(of_classes.narrow(0, first, count), batch.not_classes) +
         RuledOutLoss(of_styles.narrow(0, first, count), batch.not_styles);
}

}  // namespace

void TrainJudgeStage(const Workshop& shop, const Stage& stage) {
  const Recipe& recipe = shop.recipe;
  const int64_t oracle = OracleIndex(stage);
  const JudgeConfig config = ConfigOf(shop, oracle);
  const uint64_t seed = recipe.seed + (oracle < 0 ? 0 : 1000 + oracle);
  const StateDict initial = InitJudge(config, seed);
  TrainSpec spec =
      StageSpec(shop, stage.name, oracle < 0 ? recipe.judge_steps : recipe.oracle_steps, 3e-3);
  spec.optimizer.weight_decay = 0.05;
  spec.clip_norm = 5;
  const StateDict pictures =
      oracle < 0 ? StateDict() : LoadSafetensors(shop.scratch / "oracle_pictures.safetensors");
  // A quarter of the oracle's batch is sepia scenes or line drawings, which are few else, and its
  // views of a picture must agree on them; three eighths are pictures that models drew.
  const int64_t styled = oracle < 0 ? 0 : recipe.judge_batch / 4;
  const int64_t drawn = oracle < 0 ? 0 : recipe.judge_batch * 3 / 8;
  const auto allowed = AllowedScenes(shop);
  const SceneRequest request{
      seed, "train/" + stage.name, recipe.judge_batch - styled - drawn, 0.25, allowed, nullptr};
  const SceneRequest styles{seed,
                            "train/" + stage.name + "/styled",
                            styled,
                            0,
                            [allowed](const Scene& scene) {
                              return scene.style != SceneStyle::kPlain &&
                                     (!allowed || allowed(scene));
                            },
                            nullptr};
  Prefetch<JudgeBatch> batches([&](int64_t step) {
    JudgeBatch batch = OfScenes(shop, request, step);
    const auto key = [&](const std::string& id) {
      return StreamKey{seed, id, 0, Stream::kData, static_cast<uint64_t>(step)};
    };
    const std::string moved = request.id + "/drawn", degraded = request.id + "/degrade";
    if (oracle >= 0) {
      batch = Joined(batch, OfScenes(shop, styles, step));
      batch = Joined(batch, OfPictures(pictures, drawn, key(moved)));
    }
    batch.images = Degrade(batch.images, key(degraded));
    return batch;
  });
  auto loss = [&](const StateDict& weights, int64_t step, int64_t) {
    const JudgeBatch batch = batches.Get(step);
    Autocast autocast(recipe.bf16);
    return JudgeLoss(config, weights, batch);
  };
  const TrainResult result = Train(initial, TrainableNames(initial), spec, loss);
  WriteModel(shop, stage, JudgeConfigToJson(config), result);
}

}  // namespace excise
