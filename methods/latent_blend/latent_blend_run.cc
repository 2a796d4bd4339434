#include "methods/latent_blend/latent_blend_run.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/where.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "models/nets/clip.h"
#include "training/guided.h"

namespace excise {
namespace {

constexpr double kPi = 3.14159265358979323846;
// The standard deviation of each picture, (batch, 1, 1, 1).
at::Tensor Deviation(const at::Tensor& x) {
  return (x - x.mean({1, 2, 3}, true)).square().mean({1, 2, 3}, true).sqrt();
}

struct BlendParts {
  BlendSettings settings;
  SafeText safe;
  std::optional<TextDetector> text;
  std::optional<LatentDetector> latent;
};

class BlendRun : public HookRun {
 public:
  BlendRun(std::shared_ptr<const BlendParts> parts, const GuidanceBatch& batch);
  at::Tensor Fork(at::Tensor latents) override;
  at::Tensor Join(at::Tensor latents) override {
    return forked_ ? latents.narrow(0, 0, batch_) : latents;
  }
  std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t step) override;
  void Observe(const StepPoint& point, const std::vector<at::Tensor>& predictions) override;
  at::Tensor Combine(const GuidanceBatch& batch, int64_t step,
                     const std::vector<at::Tensor>& predictions) override;
  at::Tensor Mix(int64_t step, at::Tensor latents) override;
  Signals Detected() const override;

 private:
  // Which rows a step of one latent stream needs beside the empty prompt's; or it settles on one.
  struct Need {
    bool prompt = true, safe = false, settle = false;
  };
  Need NeedAt(int64_t step) const;
  // The weight that pictures are blended with at `step`, those that are blended.
  double WeightAt(int64_t step) const;
  // Whether each picture is blended, (batch) float of 0 and 1 on the CPU; the detectors that decide
  // while it is drawn have done so, or never will.
  at::Tensor Fired() const;
  at::Tensor Weights(int64_t step) const { return Fired() * WeightAt(step); }
  at::Tensor Guide(const at::Tensor& empty, const at::Tensor& text) const {
    return empty + scale_ * (text - empty);
  }
  // The blend of noise predictions, at the prompt stream's `input` and the safe stream's.
  at::Tensor BlendNoise(const at::Tensor& prompt, const at::Tensor& safe, const at::Tensor& input,
                        const at::Tensor& safe_input, int64_t step) const;
  const at::Tensor& Safe(const GuidanceBatch& batch);
  // Settles each picture on the stream that it resembles: the combined prediction of this step.
  at::Tensor Settle(const GuidanceBatch& batch, const std::vector<at::Tensor>& predictions);

  const std::shared_ptr<const BlendParts> parts_;
  const BlendSettings& settings_;
  const int64_t batch_, steps_;
  const double scale_;
  const bool guided_;
  int64_t first_ = 0;         // the first step that blends
  int64_t settle_ = 0;        // the first step that sums no more, with Quantity::kNearest
  int64_t latent_step_ = -1;  // the step that the latent detector reads
  bool forked_ = false;
  at::Tensor safe_;
  at::Tensor text_scores_, latent_scores_;  // (batch), detached
  StepPoint point_;
  at::Tensor settled_;  // text states of the streams that pictures settled on; undefined before
};

BlendRun::BlendRun(std::shared_ptr<const BlendParts> parts, const GuidanceBatch& batch)
    : parts_(std::move(parts)),
      settings_(parts_->settings),
      batch_(batch.prompt_states.size(0)),
      steps_(batch.num_steps),
      scale_(batch.guidance_scale),
      guided_(batch.guidance_scale != 1) {
  const double alone = settings_.global_context * static_cast<double>(steps_);
  first_ = static_cast<int64_t>(std::llround(alone));
  if (parts_->text) text_scores_ = parts_->text->Score(batch.prompt_states).detach().to(at::kCPU);
  if (parts_->latent) {
    // A drawing that begins later is read where it begins.
    latent_step_ = std::max(parts_->latent->StepOf(steps_), batch.first_step);
    first_ = std::max(first_, latent_step_ + 1);
  }
  settle_ = steps_;
  if (settings_.quantity == BlendSettings::Quantity::kNearest) {
    const double summed = settings_.settle_at * static_cast<double>(steps_ - first_);
    settle_ = first_ + static_cast<int64_t>(std::llround(summed));
  }
}

at::Tensor BlendRun::Fired() const {
  const auto above = [](const at::Tensor& scores, double threshold) {
    return (scores > threshold).to(at::kFloat);
  };
  // A step that is evaluated by itself has no history that a detector could have read: it is
  // blended, as if the detector had fired.
  if (parts_->latent && !latent_scores_.defined()) return at::ones({batch_}, at::kFloat);
  at::Tensor fired;
  if (parts_->text) fired = above(text_scores_, settings_.text_threshold);
  if (parts_->latent) {
    const at::Tensor latent = above(latent_scores_, settings_.latent_threshold);
    fired = fired.defined() ? at::where(fired > 0, fired, latent) : latent;
  }
  return fired.defined() ? fired : at::ones({batch_}, at::kFloat);
}

double BlendRun::WeightAt(int64_t step) const {
  return step < first_ ? 0 : BlendWeight(settings_, step - first_, steps_ - first_);
}

BlendRun::Need BlendRun::NeedAt(int64_t step) const {
  const double weight = WeightAt(step);
  Need need;
  if (weight == 0) return need;
  const at::Tensor fired = Fired();
  need.safe = fired.max().item<double>() > 0;
  need.prompt = weight < 1 || fired.min().item<double>() == 0;
  need.settle = need.safe && weight < 1 && step >= settle_;
  return need;
}

const at::Tensor& BlendRun::Safe(const GuidanceBatch& batch) {
  if (!safe_.defined()) safe_ = parts_->safe.States(batch);
  return safe_;
}

at::Tensor BlendRun::Fork(at::Tensor latents) {
  // The last step has the highest weight.
  forked_ = settings_.independent && WeightAt(steps_ - 1) > 0 && Fired().max().item<double>() > 0;
  return forked_ ? at::cat({latents, latents}) : latents;
}

std::vector<at::Tensor> BlendRun::Rows(const GuidanceBatch& batch, int64_t step) {
  std::vector<at::Tensor> rows;
  if (forked_) {
    if (guided_) rows.push_back(at::cat({batch.empty_states, batch.empty_states}));
    rows.push_back(at::cat({batch.prompt_states, Safe(batch)}));
    return rows;
  }
  const Need need = NeedAt(step);
  if (need.settle && settled_.defined()) {
    if (guided_) rows.push_back(batch.empty_states);
    rows.push_back(settled_);
    return rows;
  }
  if (guided_ || need.settle) rows.push_back(batch.empty_states);
  if (need.prompt) rows.push_back(batch.prompt_states);
  if (need.safe) rows.push_back(Safe(batch));
  return rows;
}

void BlendRun::Observe(const StepPoint& point, const std::vector<at::Tensor>& predictions) {
  point_ = point;
  if (point.step != latent_step_) return;
  // Nothing is blended before or at this step: these are the rows of the unmodified model.
  const at::Tensor noise = guided_ ? Guide(predictions[0], predictions[1]) : predictions[0];
  const at::Tensor x0 = X0At({point.signal, point.noise}, point.input, noise);
  latent_scores_ = parts_->latent->Score(x0).detach().to(at::kCPU);
}

at::Tensor BlendRun::BlendNoise(const at::Tensor& prompt, const at::Tensor& safe,
                                const at::Tensor& input, const at::Tensor& safe_input,
                                int64_t step) const {
  const at::Tensor weights = Weights(step).to(prompt.device());
  const bool seen = point_.step == step && input.defined() && point_.signal >= kLeastSignal;
  if (settings_.quantity != BlendSettings::Quantity::kX0 || !seen) {
    return BlendStreams(prompt, safe, weights, settings_.renormalise);
  }
  const auto x0 = [&](const at::Tensor& noise, const at::Tensor& at) {
    return X0At({point_.signal, point_.noise}, at, noise);
  };
  const at::Tensor blend =
      BlendStreams(x0(prompt, input), x0(safe, safe_input), weights, settings_.renormalise);
  const at::Tensor noise = (input - point_.signal * blend) / point_.noise;
  const at::Tensor w = weights.reshape({-1, 1, 1, 1});
  const at::Tensor inner = at::where(w == 0, prompt, noise);
  return input.is_same(safe_input) ? at::where(w == 1, safe, inner) : inner;
}

at::Tensor BlendRun::Settle(const GuidanceBatch& batch,
                            const std::vector<at::Tensor>& predictions) {
  const at::Tensor safe = NearerToSafe(predictions[0], predictions[1], predictions[2]) &
                          (Fired() > 0).to(predictions[0].device());
  settled_ = at::where(safe.reshape({-1, 1, 1}), Safe(batch), batch.prompt_states);
  const at::Tensor text = at::where(safe.reshape({-1, 1, 1, 1}), predictions[2], predictions[1]);
  return guided_ ? Guide(predictions[0], text) : text;
}

at::Tensor BlendRun::Combine(const GuidanceBatch& batch, int64_t step,
                             const std::vector<at::Tensor>& predictions) {
  const auto text = [&](size_t i) {
    return guided_ ? Guide(predictions[0], predictions.at(i + 1)) : predictions.at(i);
  };
  if (forked_) {
    const at::Tensor noise = text(0);
    if (settings_.quantity == BlendSettings::Quantity::kLatent || WeightAt(step) == 0) return noise;
    const auto half = [&](const at::Tensor& x, int64_t i) {
      return x.defined() ? x.narrow(0, i * batch_, batch_) : x;
    };
    const at::Tensor safe = half(noise, 1);
    return at::cat(
        {BlendNoise(half(noise, 0), safe, half(point_.input, 0), half(point_.input, 1), step),
         safe});
  }
  const Need need = NeedAt(step);
  if (need.settle && !settled_.defined()) return Settle(batch, predictions);
  if (!need.prompt || !need.safe || need.settle) return text(0);
  // One latent stream: an update is linear in the noise prediction, so to blend the updated latents
  // is to blend predictions.
  return BlendNoise(text(0), text(1), point_.input, point_.input, step);
}

at::Tensor BlendRun::Mix(int64_t step, at::Tensor latents) {
  if (!forked_ || settings_.quantity != BlendSettings::Quantity::kLatent || WeightAt(step) == 0) {
    return latents;
  }
  const at::Tensor safe = latents.narrow(0, batch_, batch_);
  return at::cat({BlendStreams(latents.narrow(0, 0, batch_), safe,
                               Weights(step).to(latents.device()), settings_.renormalise),
                  safe});
}

Signals BlendRun::Detected() const {
  Signals signals;
  if (text_scores_.defined()) signals["text_detector"] = {text_scores_, settings_.text_threshold};
  if (latent_scores_.defined()) {
    signals["latent_detector"] = {latent_scores_, settings_.latent_threshold};
  }
  return signals;
}

class BlendHooks : public Hooks {
 public:
  explicit BlendHooks(BlendParts parts)
      : parts_(std::make_shared<const BlendParts>(std::move(parts))) {}

  std::unique_ptr<HookRun> Start(const GuidanceBatch& batch) const override {
    return std::make_unique<BlendRun>(parts_, batch);
  }

  // Where a detector fires at one picture, all of them get the safe stream.
  bool RowsApart() const override { return !parts_->text && !parts_->latent; }

  at::Tensor TextView(const TextBatch& text) const override {
    const BlendSettings& settings = parts_->settings;
    if (!settings.Acts()) return {};
    const at::Tensor& states = text.states;
    GuidanceBatch batch;
    batch.prompt_states = states;
    batch.prompt_ids = text.ids;
    batch.prompt_embeddings = text.embeddings;
    const at::Tensor view =
        (1 - settings.weight) * states + settings.weight * parts_->safe.States(batch);
    if (!parts_->text || parts_->latent) return view;
    const at::Tensor fires = parts_->text->Score(states) > settings.text_threshold;
    return at::where(fires.reshape({-1, 1, 1}), view, states);
  }

  at::Tensor TextMargin(const TextBatch& text) const override {
    if (!parts_->settings.Acts() || !parts_->text) return {};
    return parts_->text->Score(text.states) - parts_->settings.text_threshold;
  }

 private:
  std::shared_ptr<const BlendParts> parts_;
};

}  // namespace

double BlendWeight(const BlendSettings& settings, int64_t i, int64_t n) {
  const double share = static_cast<double>(i + 1) / static_cast<double>(n);
  switch (settings.schedule) {
    case BlendSettings::Schedule::kLinear:
      return settings.weight * share;
    case BlendSettings::Schedule::kCosine:
      return settings.weight * (1 - std::cos(kPi * share)) / 2;
    default:
      return settings.weight;
  }
}

at::Tensor BlendStreams(const at::Tensor& prompt, const at::Tensor& safe, const at::Tensor& weights,
                        bool renormalise) {
  const at::Tensor w = weights.to(prompt.scalar_type()).reshape({-1, 1, 1, 1});
  at::Tensor blend = (1 - w) * prompt + w * safe;
  if (renormalise) {
    const at::Tensor mean = blend.mean({1, 2, 3}, true);
    const at::Tensor wanted = (1 - w) * Deviation(prompt) + w * Deviation(safe);
    blend = mean + (blend - mean) * (wanted / Deviation(blend).clamp_min(1e-12));
  }
  return at::where(w == 0, prompt, at::where(w == 1, safe, blend));
}

at::Tensor NearerToSafe(const at::Tensor& empty, const at::Tensor& prompt, const at::Tensor& safe) {
  const auto distance = [&](const at::Tensor& text) {
    return (text - empty).detach().square().sum({1, 2, 3});
  };
  return distance(safe) < distance(prompt);
}

at::Tensor SafeText::States(const GuidanceBatch& batch) const {
  const auto options = batch.prompt_states.options();
  if (fixed_.defined()) return fixed_.to(options).expand_as(batch.prompt_states);
  if (!batch.prompt_ids.defined()) {
    throw Error(
        "latent_blend: safe=safe_clip reads the prompt itself, but whoever samples here gives text "
        "states without the prompt's tokens (GuidanceBatch::prompt_ids). Set safe to text or "
        "anchor for this attack.");
  }
  const at::Tensor ids = batch.prompt_ids.to(at::kCPU);
  const at::Tensor embeddings = batch.prompt_embeddings.defined()
                                    ? batch.prompt_embeddings.to(at::kCPU, at::kFloat)
                                    : ClipTokenEmbeddings(encoder_, ids);
  return ClipTextForward(config_, encoder_, embeddings, ids).last_hidden_state.to(options);
}

std::shared_ptr<const Hooks> MakeBlendHooks(const BlendSettings& settings, SafeText safe,
                                            std::optional<TextDetector> text,
                                            std::optional<LatentDetector> latent) {
  return std::make_shared<BlendHooks>(
      BlendParts{settings, std::move(safe), std::move(text), std::move(latent)});
}

}  // namespace excise
