// The three CLIP models: the conditioning encoder (frozen afterwards), the reference for metrics
// and the independent surrogate for attacks, which has a tokenizer of its own.
//
// Every batch holds each class at most once, and then a second scene of some of the classes: the
// first part asks which thing it is, the second which background, place and style.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>

#include "models/formats/tokenizer.h"
#include "models/nets/clip.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"
#include "pretraining/stages/recipe.h"
#include "pretraining/stages/scenes.h"
#include "pretraining/stages/stage_util.h"
#include "training/trainer.h"

namespace excise {
namespace {

constexpr int64_t kContext = 32;
constexpr int64_t kTokenizerCaptions = 200000;

struct EncoderPlan {
  int64_t width, text_layers, vision_layers, patch, projection, merges, steps;
  double lr;
  uint64_t seed;
};

EncoderPlan PlanOf(const Workshop& shop, const std::string& stage) {
  const Recipe& r = shop.recipe;
  const auto seed = static_cast<uint64_t>(r.seed);
  if (stage == "reference_clip")
    return {128, 3, 4, 8, 128, 1000, r.reference_steps, 1.5e-3, seed + 2000};
  if (stage == "surrogate_clip")
    return {96, 3, 3, 16, 96, 600, r.surrogate_steps, 2e-3, seed + 3000};
  return {192, 4, 4, 16, 128, 1000, r.clip_steps, 1.2e-3, seed};
}

ClipConfig ConfigOf(const EncoderPlan& plan, const Tokenizer& tokenizer) {
  ClipConfig config;
  config.projection_dim = plan.projection;
  ClipTextConfig& text = config.text;
  text.vocab_size = tokenizer.vocab_size();
  text.hidden_size = plan.width;
  text.intermediate_size = 4 * plan.width;
  text.num_hidden_layers = plan.text_layers;
  text.num_attention_heads = plan.width / 32;
  text.max_position_embeddings = kContext;
  text.bos_token_id = tokenizer.bos_id();
  text.eos_token_id = tokenizer.eos_id();
  text.pad_token_id = tokenizer.pad_id();
  text.projection_dim = plan.projection;
  ClipVisionConfig& vision = config.vision;
  vision.hidden_size = plan.width;
  vision.intermediate_size = 4 * plan.width;
  vision.num_hidden_layers = plan.vision_layers;
  vision.num_attention_heads = plan.width / 32;
  vision.image_size = kSceneSize;
  vision.patch_size = plan.patch;
  vision.projection_dim = plan.projection;
  return config;
}

std::shared_ptr<const Tokenizer> MakeTokenizer(const Workshop& shop, const EncoderPlan& plan,
                                               const std::filesystem::path& folder) {
  if (!std::filesystem::exists(folder / "merges.txt")) {
    const auto allowed = AllowedScenes(shop);
    std::vector<std::string> captions;
    for (int64_t i = 0; i < kTokenizerCaptions; ++i) {
      Philox rng({plan.seed, "train/tokenizer", static_cast<uint64_t>(i), Stream::kData, 0});
      Scene scene = shop.world->SampleScene(rng);
      while (allowed && !allowed(scene)) scene = shop.world->SampleScene(rng);
      captions.push_back(shop.world->Caption(scene, rng, CaptionPart::kTrain));
    }
    TrainTokenizer(captions, plan.merges, kContext, folder);
  }
  return Tokenizer::Load(folder);
}

struct PairBatch {
  at::Tensor pixels, ids;  // (batch, 3, 64, 64) normalised; (batch, longest caption)
};

class PairMaker {
 public:
  PairMaker(const Workshop& shop, const EncoderPlan& plan, const ClipConfig& config,
            const Tokenizer& tokenizer, std::string id)
      : shop_(shop),
        plan_(plan),
        config_(config),
        tokenizer_(tokenizer),
        id_(std::move(id)),
        allowed_(AllowedScenes(shop)) {
    // A class that is a concept's has no scene that is allowed, in whatever style.
    for (int c = 0; c < static_cast<int>(shop.world->classes().size()); ++c) {
      Scene scene;
      scene.emoji = c;
      if (!allowed_ || allowed_(scene)) classes_.push_back(c);
    }
  }

  PairBatch operator()(int64_t step) const {
    const auto n = static_cast<int64_t>(classes_.size());
    Philox order({plan_.seed, id_ + "/order", 0, Stream::kOrder, static_cast<uint64_t>(step)});
    const std::vector<int64_t> first = order.Permutation(n), second = order.Permutation(n);
    SceneRequest request{plan_.seed, id_, shop_.recipe.clip_batch, 0, allowed_, nullptr};
    request.pick = [&](int64_t i) { return classes_[i < n ? first[i] : second[(i - n) % n]]; };
    const SceneBatch scenes = MakeScenes(*shop_.world, request, step);
    std::vector<std::string> captions;
    size_t longest = 0;
    for (size_t i = 0; i < scenes.scenes.size(); ++i) {
      Philox rng({plan_.seed, id_ + "/caption", i, Stream::kData, static_cast<uint64_t>(step)});
      captions.push_back(shop_.world->Caption(scenes.scenes[i], rng, CaptionPart::kTrain));
      longest = std::max(longest, tokenizer_.Encode(captions.back()).size() + 2);
    }
    const int64_t length = std::min<int64_t>(kContext, static_cast<int64_t>(longest));
    return {ClipPreprocess(config_.vision, scenes.images),
            TokenizeBatch(tokenizer_, captions, length)};
  }

 private:
  const Workshop& shop_;
  const EncoderPlan& plan_;
  const ClipConfig& config_;
  const Tokenizer& tokenizer_;
  std::string id_;
  std::function<bool(const Scene&)> allowed_;
  std::vector<int> classes_;
};

at::Tensor Normalised(const at::Tensor& x) {
  return x / x.square().sum({1}, /*keepdim=*/true).sqrt().clamp_min(1e-6);
}

at::Tensor ContrastiveLoss(const ClipConfig& config, const StateDict& weights,
                           const PairBatch& batch) {
  const at::Tensor t = Normalised(EmbedIds(config.text, weights, batch.ids).to(at::kFloat));
  const at::Tensor v = Normalised(EmbedPixels(config.vision, weights, batch.pixels).to(at::kFloat));
  // CLIP clips its scale at 100 so that training stays stable.
  const at::Tensor scale = weights.Get("logit_scale").clamp_max(4.6052).exp();
  const at::Tensor logits = scale * t.mm(v.t());
  const at::Tensor labels = at::arange(t.size(0), at::kLong);
  return 0.5 *
         (at::cross_entropy_loss(logits, labels) + at::cross_entropy_loss(logits.t(), labels));
}

}  // namespace

void TrainClipStage(const Workshop& shop, const Stage& stage) {
  const EncoderPlan plan = PlanOf(shop, stage.name);
  const bool conditioning = stage.name == "text_encoder";
  const auto tokenizer = MakeTokenizer(
      shop, plan, conditioning ? shop.out / "tokenizer" : shop.out / stage.name / "tokenizer");
  const ClipConfig config = ConfigOf(plan, *tokenizer);
  TrainSpec spec = StageSpec(shop, stage.name, plan.steps, plan.lr);
  spec.optimizer.beta2 = 0.98;
  spec.optimizer.weight_decay = 0.05;
  Prefetch<PairBatch> pairs(PairMaker(shop, plan, config, *tokenizer, "train/" + stage.name));
  auto loss = [&](const StateDict& weights, int64_t step, int64_t) {
    const PairBatch batch = pairs.Get(step);
    Autocast autocast(shop.recipe.bf16);
    return ContrastiveLoss(config, weights, batch);
  };
  const StateDict initial = InitClip(config, plan.seed);
  const TrainResult result = Train(initial, TrainableNames(initial), spec, loss);
  WriteModel(shop, stage, ClipConfigToJson(config), result);
}

}  // namespace excise
