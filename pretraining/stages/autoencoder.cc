// The VAE: L1 + MSE + a small KL term, and in the last 60 % a perceptual term on the reporting
// judge's feature maps (LPIPS's idea with our own network: Zhang et al., CVPR 2018, arXiv
// 1801.03924). The perceptual term from the start hurts; late it helps (measured).
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/l1_loss.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <optional>

#include "models/nets/judge_net.h"
#include "models/nets/vae.h"
#include "models/tensors/autograd.h"
#include "pretraining/stages/recipe.h"
#include "pretraining/stages/scenes.h"
#include "pretraining/stages/stage_util.h"
#include "training/trainer.h"

namespace excise {
namespace {

constexpr double kKlWeight = 1e-5;
constexpr double kPerceptualWeight = 0.1;
constexpr double kPerceptualFrom = 0.4;  // share of the steps

VaeConfig EmojiVaeConfig() {
  VaeConfig config;
  config.sample_size = kSceneSize;
  config.block_out_channels = {16, 32, 64, 128};
  config.layers_per_block = 1;
  config.norm_num_groups = 8;
  config.scaling_factor = 1.0;  // measured after training
  return config;
}

at::Tensor NoiseLike(const at::Tensor& mean, uint64_t seed, int64_t step) {
  at::Tensor noise = at::empty(mean.sizes(), at::kFloat);
  Philox rng({seed, "vae", 0, Stream::kVae, static_cast<uint64_t>(step)});
  rng.FillNormal(noise.data_ptr<float>(), static_cast<size_t>(noise.numel()));
  return noise;
}

// Images are in [0,1]; the judge sees them as they are.
at::Tensor PerceptualLoss(const JudgeNet& judge, const at::Tensor& images,
                          const at::Tensor& drawn) {
  const JudgeOutput real = JudgeForward(judge.config, judge.weights, images);
  const JudgeOutput fake = JudgeForward(judge.config, judge.weights, drawn);
  at::Tensor total = at::zeros({});
  for (size_t i = 0; i < real.features.size(); ++i) {
    total = total +
            at::l1_loss(fake.features[i].to(at::kFloat), real.features[i].to(at::kFloat).detach());
  }
  return total;
}

// 1 / standard deviation of the latents of fresh scenes, as Stable Diffusion's scaling factor.
double MeasureScalingFactor(const Workshop& shop, const VaeConfig& config,
                            const StateDict& weights) {
  NoGrad no_grad;
  SceneRequest request{static_cast<uint64_t>(shop.recipe.seed),
                       "train/vae_scale",
                       64,
                       0,
                       AllowedScenes(shop),
                       nullptr};
  double sum = 0, squares = 0;
  int64_t count = 0;
  for (uint64_t step = 0; step < 8; ++step) {
    const SceneBatch batch = MakeScenes(*shop.world, request, step);
    const at::Tensor mean = VaeEncode(config, weights, batch.images * 2 - 1).mean.to(at::kDouble);
    sum += mean.sum().item<double>();
    squares += mean.square().sum().item<double>();
    count += mean.numel();
  }
  const double average = sum / count;
  return 1.0 / std::sqrt(squares / count - average * average);
}

}  // namespace

void TrainVaeStage(const Workshop& shop, const Stage& stage) {
  const Recipe& recipe = shop.recipe;
  VaeConfig config = EmojiVaeConfig();
  std::optional<JudgeNet>
      judge;  // loaded when its term begins, so both can be trained side by side
  TrainSpec spec = StageSpec(shop, stage.name, recipe.vae_steps, 1.5e-3);
  spec.ema_decay = 0.998;
  SceneRequest request{static_cast<uint64_t>(recipe.seed),
                       "train/vae",
                       recipe.vae_batch,
                       0,
                       AllowedScenes(shop),
                       nullptr};
  Prefetch<SceneBatch> scenes([&](int64_t step) { return MakeScenes(*shop.world, request, step); });
  const auto perceptual_from = static_cast<int64_t>(kPerceptualFrom * recipe.vae_steps);
  auto loss = [&](const StateDict& weights, int64_t step, int64_t) {
    const at::Tensor images = scenes.Get(step).images;
    const at::Tensor target = images * 2 - 1;
    Autocast autocast(recipe.bf16);
    const VaeMoments moments = VaeEncode(config, weights, target);
    const at::Tensor mean = moments.mean.to(at::kFloat), logvar = moments.logvar.to(at::kFloat);
    const at::Tensor latents = mean + (0.5 * logvar).exp() * NoiseLike(mean, recipe.seed, step);
    const at::Tensor drawn = VaeDecode(config, weights, latents).to(at::kFloat);
    const at::Tensor kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum({1, 2, 3}).mean();
    at::Tensor total = at::l1_loss(drawn, target) + at::mse_loss(drawn, target) + kKlWeight * kl;
    if (step >= perceptual_from) {
      if (!judge) judge = LoadJudgeNet(shop.out / "judges" / "reporting");
      total = total + kPerceptualWeight * PerceptualLoss(*judge, images, drawn * 0.5 + 0.5);
    }
    return total;
  };
  const StateDict initial = InitVae(config, recipe.seed);
  const TrainResult result = Train(initial, TrainableNames(initial), spec, loss);
  config.scaling_factor =
      recipe.vae_scale > 0 ? recipe.vae_scale : MeasureScalingFactor(shop, config, result.weights);
  WriteModel(shop, stage, VaeConfigToJson(config), result);
}

}  // namespace excise
