#include "attacks/unlearn_diff_atk/denoising_attack.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "training/guided.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

std::unique_ptr<Sampler> SamplerOf(const SchedulerConfig& scheduler, const SamplerSpec& spec) {
  // Only its steps are wanted; what it would add as noise is never asked for.
  return MakeSampler(scheduler, spec.steps,
                     {spec.eta, [](size_t, const at::Tensor& like) { return like; }});
}

int64_t NearestStep(const std::vector<double>& timesteps, double wanted) {
  size_t best = 0;
  for (size_t i = 1; i < timesteps.size(); ++i) {
    if (std::abs(timesteps[i] - wanted) < std::abs(timesteps[best] - wanted)) best = i;
  }
  return static_cast<int64_t>(best);
}

// What an attacker pays for a margin of the hooks or of the filter: (margin + 0.02)+, the hinge of
// Carlini & Wagner (IEEE S&P 2017, arXiv 1608.04644). Nothing is to be gained behind the boundary,
// where a smooth loss would go on trading the concept for distance; the little more is for what one
// step cannot see.
at::Tensor Alarm(const at::Tensor& margin) { return (margin + 0.02).clamp_min(0).mean(); }

}  // namespace

at::Tensor ProjectToSimplex(const at::Tensor& rows) {
  const NoGrad no_grad;
  const at::Tensor x = rows.to(at::kDouble);
  // sum max(x - tau, 0) falls from at least 1 at max(x) - 1 to 0 at max(x).
  at::Tensor high = x.amax(-1, /*keepdim=*/true), low = high - 1;
  for (int i = 0; i < 60; ++i) {
    const at::Tensor middle = (low + high) / 2;
    const at::Tensor above = (x - middle).clamp_min(0).sum(-1, /*keepdim=*/true).ge(1);
    low = at::where(above, middle, low);
    high = at::where(above, high, middle);
  }
  return (x - (low + high) / 2).clamp_min(0).to(rows.scalar_type());
}

at::Tensor DrawTokens(const at::Tensor& distributions, Philox* rng) {
  const at::Tensor sums = distributions.detach().to(at::kDouble).cumsum(-1).contiguous();
  const int64_t rows = sums.size(0), n = sums.size(1);
  std::vector<int64_t> drawn;
  for (int64_t row = 0; row < rows; ++row) {
    const double* begin = sums.data_ptr<double>() + row * n;
    // The sum is 1 up to rounding; the last token with any weight takes what is left over.
    const double u = rng->Uniform() * begin[n - 1];
    drawn.push_back(std::min<int64_t>(std::upper_bound(begin, begin + n, u) - begin, n - 1));
  }
  return at::tensor(drawn, at::kLong);
}

void StepOnSimplex(const at::Tensor& gradient, Optimizer* optimizer, at::Tensor distribution) {
  optimizer->Step({gradient.clamp(-1, 1)});
  const NoGrad no_grad;
  distribution.copy_(ProjectToSimplex(distribution));
}

PrefixedPrompt::PrefixedPrompt(const Backbone& victim, const Prompt& seed,
                               const std::vector<int64_t>& usable, int64_t prefix_len)
    : victim_(victim), seed_(seed), usable_(at::tensor(usable, at::kLong)), length_(prefix_len) {
  const NoGrad no_grad;
  const std::vector<int64_t> own = victim.tokenizer->Encode(seed.text);
  seed_ids_ = at::tensor(own, at::kLong).view({1, static_cast<int64_t>(own.size())});
  table_ = ClipTokenEmbeddings(victim.text_encoder, usable_.unsqueeze(0))[0];
}

at::Tensor PrefixedPrompt::Tokens(const at::Tensor& indices) const {
  return at::cat({usable_.index_select(0, indices).unsqueeze(0), seed_ids_}, 1);
}

at::Tensor PrefixedPrompt::Ids(const at::Tensor& indices) const {
  return FrameIds(*victim_.tokenizer, Tokens(indices), victim_.clip.text.max_position_embeddings);
}

at::Tensor PrefixedPrompt::Embed(const at::Tensor& weights, const at::Tensor& ids) const {
  const at::Tensor all = ClipTokenEmbeddings(victim_.text_encoder, ids);
  return PlaceTokens(all, at::matmul(weights, table_).unsqueeze(0), 1);
}

Prompt PrefixedPrompt::Candidate(std::string_view attack, const at::Tensor& indices,
                                 int64_t index) const {
  const at::Tensor row = Tokens(indices)[0].contiguous();
  const std::vector<int64_t> ids(row.data_ptr<int64_t>(), row.data_ptr<int64_t>() + row.numel());
  Prompt prompt = AdversarialPrompt(seed_, attack, index, victim_.tokenizer->Decode(ids));
  prompt.token_ids = ids;
  prompt.round_trip = victim_.tokenizer->Encode(prompt.text) == ids;
  return prompt;
}

at::Tensor DenoisingObjective::Terms::Total(double lambda) const {
  return through.defined() ? denoising + lambda * (through + alarm) : denoising;
}

DenoisingObjective::DenoisingObjective(Target& target, const at::Tensor& picture, bool adaptive)
    : target_(target),
      victim_(target.Victim()),
      hooks_(adaptive ? target.VictimHooks() : nullptr),
      scheduler_(WithScheduler(victim_.scheduler, target.Sampling().scheduler)) {
  const NoGrad no_grad;
  x0_ = VaeEncode(victim_.vae_config, victim_.vae, picture * 2 - 1).mean *
        victim_.vae_config.scaling_factor;
  if (hooks_ == nullptr) return;
  empty_states_ = EncodeText(
      victim_, TokenizeBatch(*victim_.tokenizer, {""}, victim_.clip.text.max_position_embeddings),
      hooks_);
  ++target.ledger().text_evaluations;
}

std::vector<DenoisingPoint> DenoisingObjective::Points(int64_t n) const {
  const std::unique_ptr<Sampler> sampler = SamplerOf(scheduler_, target_.Sampling());
  const int64_t all = scheduler_.num_train_timesteps;
  std::vector<DenoisingPoint> points;
  for (int64_t j = 0; j < n; ++j) {
    DenoisingPoint point;
    point.timestep = static_cast<double>((2 * j + 1) * all / (2 * n));
    if (hooks_ != nullptr) {
      point.step = NearestStep(sampler->timesteps(), point.timestep);
      const auto index = static_cast<size_t>(point.step);
      point.timestep = sampler->timesteps()[index];
      point.signal = sampler->Level(index).signal;
      point.noise = sampler->Level(index).noise;
    } else {
      const NoiseLevel level = LevelOf(scheduler_, static_cast<int64_t>(point.timestep));
      point.signal = level.signal;
      point.noise = level.noise;
    }
    points.push_back(point);
  }
  return points;
}

at::Tensor DenoisingObjective::DrawNoise(int64_t draws, Philox* rng) const {
  at::Tensor noise = at::empty({draws, x0_.size(1), x0_.size(2), x0_.size(3)}, at::kFloat);
  rng->FillNormal(noise.data_ptr<float>(), static_cast<size_t>(noise.numel()));
  return noise;
}

at::Tensor DenoisingObjective::PredictThrough(const at::Tensor& states,
                                              const at::Tensor& token_embeddings,
                                              const at::Tensor& ids, const DenoisingPoint& point,
                                              const at::Tensor& input) const {
  const SamplerSpec& spec = target_.Sampling();
  const std::unique_ptr<Sampler> sampler = SamplerOf(scheduler_, spec);
  GuidanceBatch batch{states, empty_states_.expand_as(states), spec.guidance_scale,
                      static_cast<int64_t>(sampler->timesteps().size())};
  batch.prompt_ids = ids.expand({states.size(0), -1});
  batch.prompt_embeddings = token_embeddings.expand({states.size(0), -1, -1});
  const std::unique_ptr<HookRun> run = hooks_->Start(batch);
  return PredictNoise(victim_, *run, batch, scheduler_, *sampler, point.step, input,
                      &target_.ledger().unet_evaluations);
}

at::Tensor DenoisingObjective::Alarms(const TextBatch& text, const DenoisingPoint& point,
                                      const at::Tensor& input, const at::Tensor& prediction) const {
  at::Tensor alarm = at::zeros({}, prediction.options().requires_grad(false));
  const ImageFilter* filter = hooks_->Filter();
  if (filter != nullptr && point.signal >= kLeastSignal) {
    const at::Tensor x0 = X0At({point.signal, point.noise}, input, prediction);
    alarm = alarm + Alarm(filter->Margin(DecodeImages(victim_, x0)));
  }
  const at::Tensor margin = hooks_->TextMargin(text);
  return margin.defined() ? alarm + Alarm(margin) : alarm;
}

DenoisingObjective::Terms DenoisingObjective::Score(const at::Tensor& token_embeddings,
                                                    const at::Tensor& ids,
                                                    const DenoisingPoint& point,
                                                    const at::Tensor& noise) const {
  const int64_t draws = noise.size(0);
  const ClipTextOutput text =
      ClipTextForward(victim_.clip.text, victim_.text_encoder, token_embeddings, ids);
  ++target_.ledger().text_evaluations;
  const at::Tensor states = text.last_hidden_state.expand({draws, -1, -1});
  const at::Tensor input = point.signal * x0_ + point.noise * noise;
  target_.ledger().unet_evaluations += draws;
  const at::Tensor output = UNetForward(victim_.unet_config, victim_.unet, input,
                                        at::full({}, point.timestep, at::kFloat), states);
  Terms terms;
  terms.denoising = at::mse_loss(
      ToEpsilon(scheduler_, output, input, NoiseLevel{point.signal, point.noise}), noise);
  if (hooks_ == nullptr) return terms;
  // What acts inside the text encoder is the hooks', too: their prompt is another one.
  const std::unique_ptr<LayerHooks> layers = hooks_->TextLayers();
  ClipTextOutput hooked = text;
  if (layers != nullptr) {
    hooked = ClipTextForward(victim_.clip.text, victim_.text_encoder, token_embeddings, ids, {},
                             layers.get());
    ++target_.ledger().text_evaluations;
  }
  const at::Tensor prediction = PredictThrough(hooked.last_hidden_state.expand({draws, -1, -1}),
                                               token_embeddings, ids, point, input);
  terms.through = at::mse_loss(prediction, noise);
  TextBatch read{ids, token_embeddings, hooked.last_hidden_state, {}};
  // A text encoder that came without its projection has no embeddings to show.
  if (victim_.text_encoder.Contains("text_projection.weight")) {
    read.pooled = nn::Normalised(ClipTextEmbeds(victim_.text_encoder, hooked.pooler_output));
  }
  terms.alarm = Alarms(read, point, input, prediction);
  return terms;
}

}  // namespace excise
