#include "attacks/denoising_attack.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "attacks/alarm.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
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

// Values of rows (lanes x draws, ...) as a mean a lane.
at::Tensor LaneMeans(const at::Tensor& rows, int64_t lanes) {
  return rows.reshape({lanes, -1}).mean(1);
}

// A row a lane as one a draw.
at::Tensor ForDraws(const at::Tensor& lanes, int64_t draws) {
  return draws == 1 ? lanes : lanes.repeat_interleave(draws, 0);
}

// The mean excess over tau of those above it never falls, until none drops out (Michelot, Journal
// of Optimization Theory and Applications 50, 1986): a few passes, and exact.
double SimplexThreshold(const double* x, int64_t n) {
  double tau = -std::numeric_limits<double>::infinity();
  for (int64_t last = n + 1;;) {
    double sum = 0;
    int64_t above = 0;
    for (int64_t i = 0; i < n; ++i) {
      if (!(x[i] > tau)) continue;
      sum += x[i];
      ++above;
    }
    if (above >= last) return tau;
    last = above;
    tau = (sum - 1) / static_cast<double>(above);
  }
}

}  // namespace

at::Tensor ProjectToSimplex(const at::Tensor& rows) {
  const NoGrad no_grad;
  const at::Tensor x = rows.to(at::kDouble).contiguous();
  const int64_t n = x.size(-1);
  std::vector<double> taus;
  for (int64_t start = 0; start < x.numel(); start += n) {
    taus.push_back(SimplexThreshold(x.data_ptr<double>() + start, n));
  }
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = 1;
  const at::Tensor tau = at::tensor(taus, at::kDouble).view(shape);
  return (x - tau).clamp_min(0).to(rows.scalar_type());
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

PrefixedPrompts::PrefixedPrompts(const Backbone& victim, std::vector<Prompt> seeds,
                                 const std::vector<int64_t>& usable, int64_t prefix_len)
    : victim_(victim),
      seeds_(std::move(seeds)),
      usable_(at::tensor(usable, at::kLong)),
      length_(prefix_len) {
  const NoGrad no_grad;
  table_ = ClipTokenEmbeddings(victim.text_encoder, usable_.unsqueeze(0))[0];
  std::vector<at::Tensor> rows;
  for (const Prompt& seed : seeds_) {
    std::vector<int64_t> ids(static_cast<size_t>(prefix_len), usable.front());
    const std::vector<int64_t> own = victim.tokenizer->Encode(seed.text);
    ids.insert(ids.end(), own.begin(), own.end());
    rows.push_back(FrameIds(*victim.tokenizer, at::tensor(ids, at::kLong).unsqueeze(0),
                            victim.clip.text.max_position_embeddings));
  }
  framed_ = at::cat(rows);
  embeddings_ = ClipTokenEmbeddings(victim.text_encoder, framed_);
}

at::Tensor PrefixedPrompts::Ids(const at::Tensor& indices) const {
  at::Tensor ids = framed_.clone();
  ids.narrow(1, 1, length_).copy_(usable_.index_select(0, indices.flatten()).view_as(indices));
  return ids;
}

at::Tensor PrefixedPrompts::Embed(const at::Tensor& weights) const {
  return PlaceTokens(embeddings_, at::matmul(weights.to(table_.device()), table_), 1);
}

Prompt PrefixedPrompts::Candidate(std::string_view attack, size_t lane, const at::Tensor& indices,
                                  int64_t index) const {
  const at::Tensor prefix = usable_.index_select(0, indices);
  std::vector<int64_t> ids(prefix.data_ptr<int64_t>(), prefix.data_ptr<int64_t>() + length_);
  const std::vector<int64_t> own = victim_.tokenizer->Encode(seeds_[lane].text);
  ids.insert(ids.end(), own.begin(), own.end());
  Prompt prompt = AdversarialPrompt(seeds_[lane], attack, index, victim_.tokenizer->Decode(ids));
  prompt.token_ids = ids;
  prompt.round_trip = victim_.tokenizer->Encode(prompt.text) == ids;
  return prompt;
}

at::Tensor DenoisingObjective::Terms::Total(double lambda) const {
  return through.defined() ? denoising + lambda * (through + alarm) : denoising;
}

DenoisingObjective::DenoisingObjective(Target& target, const at::Tensor& pictures, bool adaptive)
    : victim_(target.Victim()),
      hooks_(adaptive ? target.VictimHooks() : nullptr),
      sampling_(target.Sampling()),
      scheduler_(WithScheduler(victim_.scheduler, sampling_.scheduler)),
      sampler_(SamplerOf(scheduler_, sampling_)),
      costs_(static_cast<size_t>(pictures.size(0))) {
  const NoGrad no_grad;
  x0_ = VaeEncode(victim_.vae_config, victim_.vae, pictures * 2 - 1).mean *
        victim_.vae_config.scaling_factor;
  if (hooks_ == nullptr) return;
  empty_states_ = EncodeText(
      victim_, TokenizeBatch(*victim_.tokenizer, {""}, victim_.clip.text.max_position_embeddings),
      hooks_);
  for (Ledger& cost : costs_) ++cost.text_evaluations;
}

std::vector<DenoisingPoint> DenoisingObjective::Points(int64_t n) const {
  const int64_t all = scheduler_.num_train_timesteps;
  std::vector<DenoisingPoint> points;
  for (int64_t j = 0; j < n; ++j) {
    points.push_back(PointAt(static_cast<double>((2 * j + 1) * all / (2 * n))));
  }
  return points;
}

DenoisingPoint DenoisingObjective::PointAt(double timestep) const {
  if (hooks_ == nullptr) {
    const NoiseLevel level = LevelOf(scheduler_, static_cast<int64_t>(timestep));
    return {0, timestep, level.signal, level.noise};
  }
  const int64_t step = NearestStep(sampler_->timesteps(), timestep);
  const auto index = static_cast<size_t>(step);
  const NoiseLevel level = sampler_->Level(index);
  return {step, sampler_->timesteps()[index], level.signal, level.noise};
}

at::Tensor DenoisingObjective::DrawNoise(int64_t draws, Philox* rng) const {
  return UnitNormal(rng, {draws, x0_.size(1), x0_.size(2), x0_.size(3)});
}

std::vector<Ledger> DenoisingObjective::TakeCosts() const {
  return std::exchange(costs_, std::vector<Ledger>(costs_.size()));
}

at::Tensor DenoisingObjective::PredictThrough(const Shown& shown,
                                              const DenoisingPoint& point) const {
  const int64_t draws = shown.input.size(0) / shown.lanes();
  const at::Tensor states = ForDraws(shown.text.last_hidden_state, draws);
  GuidanceBatch batch{states, empty_states_.expand_as(states), sampling_.guidance_scale,
                      static_cast<int64_t>(sampler_->timesteps().size())};
  batch.prompt_ids = ForDraws(shown.ids, draws);
  batch.prompt_embeddings = ForDraws(shown.embeddings, draws);
  const std::unique_ptr<HookRun> run = hooks_->Start(batch);
  int64_t evaluations = 0;
  const at::Tensor prediction = PredictNoise(victim_, *run, batch, scheduler_, *sampler_,
                                             point.step, shown.input, &evaluations);
  for (int64_t lane = 0; lane < shown.lanes(); ++lane) {
    costs_[static_cast<size_t>(shown.first + lane)].unet_evaluations += evaluations / shown.lanes();
  }
  return prediction;
}

at::Tensor DenoisingObjective::Alarms(const Shown& shown, const DenoisingPoint& point,
                                      const at::Tensor& prediction) const {
  at::Tensor alarm = at::zeros({shown.lanes()}, prediction.options().requires_grad(false));
  const auto add = [&](const at::Tensor& margin) {
    alarm = alarm + LaneMeans(Alarm(margin), shown.lanes()).to(alarm.device());
  };
  const ImageFilter* filter = hooks_->Filter();
  if (filter != nullptr && point.signal >= kLeastSignal) {
    const at::Tensor x0 = X0At({point.signal, point.noise}, shown.input, prediction);
    add(filter->Margin(DecodeImages(victim_, x0)));
  }
  // A filter's margin is asked of the picture itself.
  if (hooks_->OnlyFilters()) return alarm;
  TextBatch read{shown.ids, shown.embeddings, shown.text.last_hidden_state, {}};
  // A text encoder that came without its projection has no embeddings to show.
  if (victim_.text_encoder.Contains("text_projection.weight")) {
    read.pooled = nn::Normalised(ClipTextEmbeds(victim_.text_encoder, shown.text.pooler_output));
  }
  const at::Tensor margin = hooks_->TextMargin(read);
  if (margin.defined()) add(margin);
  return alarm;
}

void DenoisingObjective::ScoreThrough(const Shown& shown, const DenoisingPoint& point,
                                      Terms* terms) const {
  Shown hooked = shown;
  // What acts inside the text encoder is the hooks', too: their prompt is another one.
  const std::unique_ptr<LayerHooks> layers = hooks_->TextLayers();
  if (layers != nullptr) {
    hooked.text = ClipTextForward(victim_.clip.text, victim_.text_encoder, shown.embeddings,
                                  shown.ids, {}, layers.get());
    for (int64_t lane = 0; lane < shown.lanes(); ++lane) {
      ++costs_[static_cast<size_t>(shown.first + lane)].text_evaluations;
    }
  }
  const at::Tensor prediction = PredictThrough(hooked, point);
  const auto add = [](const at::Tensor& lanes, at::Tensor* all) {
    *all = all->defined() ? at::cat({*all, lanes}) : lanes;
  };
  add(LaneMeans((prediction - shown.wanted).square(), shown.lanes()), &terms->through);
  add(Alarms(hooked, point, prediction), &terms->alarm);
}

DenoisingObjective::Terms DenoisingObjective::Score(const at::Tensor& token_embeddings,
                                                    const at::Tensor& ids,
                                                    const DenoisingPoint& point,
                                                    const at::Tensor& noise_drawn,
                                                    const at::Tensor& wanted_noise) const {
  const at::Tensor noise = noise_drawn.to(x0_.device());
  const at::Tensor wanted = wanted_noise.defined() ? wanted_noise : noise;
  const int64_t lanes = x0_.size(0), draws = noise.size(0) / lanes;
  const ClipTextOutput text =
      ClipTextForward(victim_.clip.text, victim_.text_encoder, token_embeddings, ids);
  const at::Tensor input = point.signal * ForDraws(x0_, draws) + point.noise * noise;
  const at::Tensor output = UNetForward(victim_.unet_config, victim_.unet, input,
                                        at::full({}, point.timestep, at::kFloat),
                                        ForDraws(text.last_hidden_state, draws));
  for (Ledger& cost : costs_) {
    ++cost.text_evaluations;
    cost.unet_evaluations += draws;
  }
  const NoiseLevel level{point.signal, point.noise};
  Terms terms;
  terms.denoising =
      LaneMeans((ToEpsilon(scheduler_, output, input, level) - wanted).square(), lanes);
  if (hooks_ == nullptr) return terms;
  const int64_t together = hooks_->RowsApart() ? lanes : 1;
  for (int64_t first = 0; first < lanes; first += together) {
    const auto of = [&](const at::Tensor& rows, int64_t each = 1) {
      return rows.narrow(0, first * each, together * each);
    };
    ScoreThrough({first,
                  of(token_embeddings),
                  of(ids),
                  {of(text.last_hidden_state), of(text.pooler_output)},
                  of(input, draws),
                  of(wanted, draws)},
                 point, &terms);
  }
  return terms;
}

at::Tensor DenoisingObjective::Predicted(const Backbone& model, const at::Tensor& states,
                                         const DenoisingPoint& point,
                                         const at::Tensor& noise_drawn) const {
  const NoGrad no_grad;
  const at::Tensor noise = noise_drawn.to(x0_.device());
  const int64_t draws = noise.size(0) / x0_.size(0);
  const at::Tensor input = point.signal * ForDraws(x0_, draws) + point.noise * noise;
  const at::Tensor output =
      UNetForward(model.unet_config, model.unet, input, at::full({}, point.timestep, at::kFloat),
                  ForDraws(states, draws));
  for (Ledger& cost : costs_) cost.unet_evaluations += draws;
  return ToEpsilon(scheduler_, output, input, {point.signal, point.noise});
}

}  // namespace excise
