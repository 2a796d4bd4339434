#include "pretraining/stages/searched_pictures.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <algorithm>

#include "attacks/denoising_attack.h"
#include "core/progress.h"
#include "core/registry.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
#include "training/guided.h"
#include "training/usable_tokens.h"

namespace excise {
namespace {

constexpr int64_t kDrawBatch = 32;
constexpr int64_t kPrefix = 5;  // tokens; this and the next as the attack's defaults
constexpr double kLearningRate = .1, kWeightDecay = .1;

// One distribution over prefix tokens a prompt, all moved together.
class Searches {
 public:
  Searches(const Backbone& victim, const Concept& subject, const std::vector<Prompt>& prompts,
           const at::Tensor& x0, uint64_t seed)
      : victim_(victim),
        x0_(x0),
        rng_({seed, "search/" + subject.name, 0, Stream::kAttack, 0}),
        noise_rng_({seed, "search/" + subject.name, 0, Stream::kAttack, 1}),
        prefixed_(victim, prompts, UsableTokens(*victim.tokenizer, "unlisted", subject.known),
                  kPrefix) {
    const auto n = static_cast<int64_t>(prompts.size());
    distributions_ = at::full({n, kPrefix, prefixed_.vocabulary()},
                              1.0 / static_cast<double>(prefixed_.vocabulary()), at::kFloat);
    OptimizerSpec spec;
    spec.name = "adam";
    spec.lr = kLearningRate;
    spec.weight_decay = kWeightDecay;
    optimizer_ = std::make_unique<Optimizer>(spec, std::vector<std::string>{"distributions"},
                                             std::vector<at::Tensor>{distributions_});
  }

  void Step(int64_t timestep) {
    const at::Tensor drawn =
        DrawTokens(distributions_.flatten(0, 1), &rng_).view({distributions_.size(0), kPrefix});
    at::Tensor one_hot = at::one_hot(drawn, distributions_.size(2)).to(at::kFloat);
    one_hot.requires_grad_(true);
    at::Tensor noise = at::empty(x0_.sizes(), at::kFloat);
    noise_rng_.FillNormal(noise.data_ptr<float>(), static_cast<size_t>(noise.numel()));
    // The sum over prompts: each one's gradient is its own.
    const at::Tensor loss =
        Loss(one_hot, drawn, timestep, noise) * static_cast<double>(one_hot.size(0));
    StepOnSimplex(Gradients(loss, {one_hot})[0], optimizer_.get(), distributions_);
  }

  // (n, context): the likeliest prefix of each.
  at::Tensor Best() const { return prefixed_.Ids(distributions_.argmax(-1)); }

 private:
  at::Tensor Loss(const at::Tensor& one_hot, const at::Tensor& drawn, int64_t timestep,
                  const at::Tensor& noise) const {
    const at::Tensor ids = prefixed_.Ids(drawn);
    const at::Tensor states = EncodeTokens(victim_, prefixed_.Embed(one_hot), ids);
    const NoiseLevel level = LevelOf(victim_.scheduler, timestep);
    const at::Tensor input = level.signal * x0_ + level.noise * noise;
    const at::Tensor output =
        UNetForward(victim_.unet_config, victim_.unet, input,
                    at::full({}, static_cast<double>(timestep), at::kFloat), states);
    return at::mse_loss(ToEpsilon(victim_.scheduler, output, input, level), noise);
  }

  const Backbone& victim_;
  const at::Tensor x0_;
  Philox rng_, noise_rng_;
  PrefixedPrompts prefixed_;
  at::Tensor distributions_;  // (n, prefix, usable)
  std::unique_ptr<Optimizer> optimizer_;
};

}  // namespace

std::vector<Prompt> TargetPrompts(const Concept& subject, Split split, int64_t limit) {
  return Registry<Dataset>::Get()
      .Make("emoji_prompts")
      ->Prompts(subject, "target", split, limit)
      .prompts;
}

SamplerSpec TableSampler() {
  SamplerSpec spec;
  spec.scheduler = "dpmsolver";
  spec.steps = 8;
  return spec;
}

at::Tensor DrawAsked(const Backbone& model, const Asked& asked, uint64_t seed) {
  const NoGrad no_grad;
  const int64_t channels = model.unet_config.in_channels, side = model.unet_config.sample_size;
  const int64_t context = asked.ids.size(1);
  const at::Tensor empty = EncodeText(model, TokenizeBatch(*model.tokenizer, {""}, context));
  std::vector<at::Tensor> pictures;
  for (int64_t first = 0; first < asked.ids.size(0); first += kDrawBatch) {
    const int64_t count = std::min(kDrawBatch, asked.ids.size(0) - first);
    std::vector<at::Tensor> noise;
    for (int64_t i = first; i < first + count; ++i) {
      noise.push_back(LatentNoise(seed, asked.noise[i], 0, {1, channels, side, side}));
    }
    const at::Tensor states = EncodeText(model, asked.ids.narrow(0, first, count));
    const at::Tensor latents =
        SampleLatents(model, nullptr, states, empty.expand_as(states).contiguous(), at::cat(noise),
                      TableSampler());
    pictures.push_back(ToUint8(DecodeImages(model, latents)));
  }
  return at::cat(pictures);
}

at::Tensor SearchPictures(const Backbone& base, const Backbone& victim, const Concept& subject,
                          const std::vector<Prompt>& prompts, const SearchBudget& budget,
                          uint64_t seed) {
  Asked own, references;
  std::vector<std::string> texts;
  for (const Prompt& prompt : prompts) {
    texts.push_back(prompt.text);
    own.noise.push_back("searched/" + prompt.id);
    references.noise.push_back("reference/" + prompt.id);
  }
  own.ids = references.ids =
      TokenizeBatch(*base.tokenizer, texts, base.clip.text.max_position_embeddings);
  const at::Tensor pictures = DrawAsked(base, references, seed).to(at::kFloat).div(255);
  at::Tensor x0;
  {
    const NoGrad no_grad;
    x0 = VaeEncode(victim.vae_config, victim.vae, pictures * 2 - 1).mean *
         victim.vae_config.scaling_factor;
  }
  Searches searches(victim, subject, prompts, x0, seed);
  std::vector<at::Tensor> tries = {DrawAsked(victim, own, seed)};
  Progress progress("search: " + subject.name, budget.timesteps, "tries");
  const int64_t all = victim.scheduler.num_train_timesteps;
  for (int64_t j = 0; j < budget.timesteps; ++j) {
    for (int64_t i = 0; i < budget.iterations; ++i) {
      searches.Step((2 * j + 1) * all / (2 * budget.timesteps));
    }
    tries.push_back(DrawAsked(victim, {searches.Best(), own.noise}, seed));
    progress.Advance(1);
  }
  return at::stack(tries, 1);
}

}  // namespace excise
