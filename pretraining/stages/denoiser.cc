// The U-Net and `retrained`. Both branch from one trunk that never saw a target concept: the trunk
// costs half of the training and is paid once, and `retrained` is a true retrained model, since no
// picture of a target reaches any step of its history.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <fmt/format.h>

#include "core/hash.h"
#include "core/progress.h"
#include "models/nets/unet.h"
#include "models/snapshots/backbone.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "pretraining/stages/recipe.h"
#include "pretraining/stages/scenes.h"
#include "pretraining/stages/stage_util.h"
#include "training/trainer.h"

namespace excise {
namespace {

constexpr double kCaptionDropout = 0.1;
constexpr int64_t kEncodeBatch = 128;
constexpr int64_t kLatentChannels = 4, kLatentSize = 8;

UNetConfig EmojiUNetConfig(int64_t context_width) {
  UNetConfig config;
  config.sample_size = kLatentSize;
  config.block_out_channels = {64, 128};
  config.down_block_types = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D"};
  config.up_block_types = {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D"};
  config.layers_per_block = 1;
  config.cross_attention_dim = context_width;
  config.num_heads = {2, 4};
  return config;
}

// Latents and caption states of a fixed set of scenes, computed once and kept in the scratch folder
// for all three stages.
struct Cache {
  at::Tensor latents;           // (n, 4, 8, 8) scaled
  at::Tensor states;            // (n, 32, width) bfloat16
  at::Tensor empty;             // (1, 32, width)
  at::Tensor shows_concept;     // (n) uint8: rows that `retrained` must never see
  std::vector<int64_t> usable;  // rows a stage may use
};

// What a stage reads: an unfinished snapshot, without its U-Net.
Backbone Frozen(const Workshop& shop) {
  Backbone backbone;
  backbone.folder = shop.out;
  const ClipModel clip = LoadClipModel(shop.out / "text_encoder");
  backbone.clip = clip.config;
  backbone.tokenizer = Tokenizer::Load(shop.out / "tokenizer");
  backbone.text_encoder = clip.weights;
  const std::filesystem::path vae = shop.out / "vae";
  backbone.vae_config =
      ParseVaeConfig(ReadJsonFile(vae / "config.json"), (vae / "config.json").string());
  backbone.vae = LoadSafetensorsFolder(vae, "diffusion_pytorch_model");
  return backbone;
}

// One file per (encoders, recipe): a changed encoder never meets an old cache.
std::filesystem::path CacheFile(const Workshop& shop, const Backbone& backbone) {
  const Json key = {{"text_encoder", Sha256HexOfFile(shop.out / "text_encoder/model.safetensors")},
                    {"vae", Sha256HexOfFile(shop.out / "vae/diffusion_pytorch_model.safetensors")},
                    {"scale", backbone.vae_config.scaling_factor},
                    {"scenes", shop.recipe.cached_scenes},
                    {"seed", shop.recipe.seed}};
  return shop.scratch /
         fmt::format("unet_cache.{}.safetensors", Sha256Hex(CanonicalJson(key)).substr(0, 12));
}

// Fills rows [row, row + kEncodeBatch).
void EncodeRows(const Workshop& shop, const Backbone& backbone, int64_t row, Cache* cache) {
  const auto seed = static_cast<uint64_t>(shop.recipe.seed);
  const auto allowed = WithoutConcepts(*shop.world, shop.concepts);
  const SceneRequest request{seed, "train/unet", kEncodeBatch, 0, nullptr, nullptr};
  const SceneBatch scenes = MakeScenes(*shop.world, request, row / kEncodeBatch);
  std::vector<std::string> captions;
  for (int64_t i = 0; i < kEncodeBatch; ++i) {
    Philox rng({seed, "train/unet/caption", static_cast<uint64_t>(row + i), Stream::kData, 0});
    captions.push_back(shop.world->Caption(scenes.scenes[i], rng, CaptionPart::kTrain));
    cache->shows_concept[row + i] = !allowed(scenes.scenes[i]);
  }
  const at::Tensor ids = TokenizeBatch(*backbone.tokenizer, captions, cache->states.size(1));
  cache->states.narrow(0, row, kEncodeBatch).copy_(EncodeText(backbone, ids));
  const at::Tensor mean = VaeEncode(backbone.vae_config, backbone.vae, scenes.images * 2 - 1).mean;
  cache->latents.narrow(0, row, kEncodeBatch)
      .copy_(mean.to(at::kFloat) * backbone.vae_config.scaling_factor);
}

Cache ComputeCache(const Workshop& shop, const Backbone& backbone) {
  const NoGrad no_grad;
  const Autocast autocast(shop.recipe.bf16);
  const int64_t n = shop.recipe.cached_scenes / kEncodeBatch * kEncodeBatch;
  const int64_t context = backbone.clip.text.max_position_embeddings;
  Cache cache;
  cache.latents = at::empty({n, kLatentChannels, kLatentSize, kLatentSize}, at::kFloat);
  cache.states = at::empty({n, context, backbone.clip.text.hidden_size}, at::kBFloat16);
  cache.shows_concept = at::empty({n}, at::kByte);
  cache.empty =
      EncodeText(backbone, TokenizeBatch(*backbone.tokenizer, {""}, context)).to(at::kFloat);
  Progress progress("latents and caption states", n, "scenes");
  for (int64_t row = 0; row < n; row += kEncodeBatch) {
    EncodeRows(shop, backbone, row, &cache);
    progress.Advance(kEncodeBatch);
  }
  return cache;
}

Cache OpenCache(const Workshop& shop, const Backbone& backbone, bool without_concepts) {
  const std::filesystem::path file = CacheFile(shop, backbone);
  if (!std::filesystem::exists(file)) {
    const Cache fresh = ComputeCache(shop, backbone);
    StateDict tensors;
    tensors.Set("latents", fresh.latents);
    tensors.Set("states", fresh.states);
    tensors.Set("empty", fresh.empty);
    tensors.Set("shows_concept", fresh.shows_concept);
    SaveSafetensors(file, tensors, shop.Metadata("unet_cache"));
  }
  const StateDict tensors = LoadSafetensors(file, /*upcast=*/false);
  Cache cache{tensors.Get("latents"),
              tensors.Get("states"),
              tensors.Get("empty"),
              tensors.Get("shows_concept"),
              {}};
  const uint8_t* shows = cache.shows_concept.data_ptr<uint8_t>();
  for (int64_t row = 0; row < cache.latents.size(0); ++row) {
    if (!without_concepts || !shows[row]) cache.usable.push_back(row);
  }
  return cache;
}

struct NoisyBatch {
  at::Tensor latents, noise, timesteps, states;
};

NoisyBatch DrawBatch(const Cache& cache, const Recipe& recipe, const std::string& stage,
                     int64_t step) {
  Philox rng(
      {static_cast<uint64_t>(recipe.seed), stage, 0, Stream::kOrder, static_cast<uint64_t>(step)});
  std::vector<int64_t> rows, timesteps;
  std::vector<uint8_t> dropped;
  for (int64_t i = 0; i < recipe.unet_batch; ++i) {
    rows.push_back(cache.usable[rng.Below(cache.usable.size())]);
    timesteps.push_back(static_cast<int64_t>(rng.Below(1000)));
    dropped.push_back(rng.Uniform() < kCaptionDropout);
  }
  const at::Tensor index = at::tensor(rows, at::kLong);
  NoisyBatch batch;
  batch.latents = cache.latents.index_select(0, index);
  batch.noise = at::empty(batch.latents.sizes(), at::kFloat);
  rng.FillNormal(batch.noise.data_ptr<float>(), static_cast<size_t>(batch.noise.numel()));
  batch.timesteps = at::tensor(timesteps, at::kLong);
  const at::Tensor drop = at::tensor(dropped, at::kByte).to(at::kBool).view({-1, 1, 1});
  batch.states = at::where(drop, cache.empty.to(at::kFloat),
                           cache.states.index_select(0, index).to(at::kFloat));
  return batch;
}

}  // namespace

void TrainUnetStage(const Workshop& shop, const Stage& stage) {
  const Recipe& recipe = shop.recipe;
  const Backbone backbone = Frozen(shop);
  const UNetConfig config = EmojiUNetConfig(backbone.clip.text.hidden_size);
  const bool trunk = stage.name == "unet_trunk";
  const Cache cache = OpenCache(
      shop, backbone, /*without_concepts=*/recipe.without_concepts || stage.name != "unet");
  const SchedulerConfig scheduler;
  TrainSpec spec =
      StageSpec(shop, stage.name, trunk ? recipe.trunk_steps : recipe.branch_steps, 1.2e-3);
  spec.ema_decay = 0.998;
  if (trunk) {
    spec.schedule.name = "constant";  // the branches decay
    spec.ema_decay = 0;
  }
  const StateDict initial =
      trunk ? InitUNet(config, recipe.seed)
            : LoadSafetensors(shop.scratch / "unet_trunk.safetensors", /*upcast=*/true);
  Prefetch<NoisyBatch> batches(
      [&](int64_t step) { return DrawBatch(cache, recipe, stage.name, step); });
  auto loss = [&](const StateDict& weights, int64_t step, int64_t) {
    const NoisyBatch batch = batches.Get(step);
    const at::Tensor noisy = AddNoise(scheduler, batch.latents, batch.noise, batch.timesteps);
    Autocast autocast(recipe.bf16);
    const at::Tensor prediction =
        UNetForward(config, weights, noisy, batch.timesteps, batch.states);
    return at::mse_loss(prediction.to(at::kFloat), batch.noise);
  };
  const TrainResult result = Train(initial, TrainableNames(initial), spec, loss);
  if (trunk) {
    SaveSafetensors(shop.scratch / "unet_trunk.safetensors", result.weights,
                    shop.Metadata(stage.name));
  } else {
    WriteModel(shop, stage, UNetConfigToJson(config), result);
  }
}

}  // namespace excise
