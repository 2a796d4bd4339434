// What fine-tuning, probes and attacks read off a diffusion model on its way from noise to a
// picture: predictions of several texts at every step of a guided run, mixtures of them, and the x0
// that one predicts.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "models/samplers/scheduler.h"
#include "models/snapshots/backbone.h"

namespace excise {

// empty + scale (text - empty), of predictions on the same latents, any shape: classifier-free
// guidance (Ho & Salimans, arXiv 2207.12598). With a scale below 0 it points away from the text,
// which is what erasing trains towards: -eta is ESD's target (arXiv 2303.07345, eq. 7).
at::Tensor GuidedPrediction(const at::Tensor& empty, const at::Tensor& text, double scale);

// Below this share of signal the x0 of a prediction is the prediction's error, magnified, and hooks
// are handed raw outputs (see HookRun::Combine).
constexpr double kLeastSignal = 0.05;

// The picture in `input` = signal x0 + noise epsilon, where `epsilon` is the noise: (input - noise
// epsilon) / max(signal, kLeastSignal). Any shape; differentiable.
at::Tensor X0At(NoiseLevel level, const at::Tensor& input, const at::Tensor& epsilon);

// The level of a training timestep, in [0, num_train_timesteps): sqrt(abar), sqrt(1 - abar).
NoiseLevel LevelOf(const SchedulerConfig& config, int64_t timestep);

// Runs of a model by DDIM without clipping, whatever its snapshot's own sampler is: what the model
// sees of a picture depends on the noise level alone, and DDIM draws no noise.
class GuidedTrajectory {
 public:
  // `model` must outlive it. Throws UsageError when its schedule does not allow `steps` steps.
  GuidedTrajectory(const Backbone& model, int64_t steps);
  int64_t steps() const { return static_cast<int64_t>(timesteps_.size()); }
  double timestep(int64_t step) const { return timesteps_.at(static_cast<size_t>(step)); }
  NoiseLevel level(int64_t step) const { return levels_.at(static_cast<size_t>(step)); }
  // The schedule with which raw predictions are converted (ToEpsilon).
  const SchedulerConfig& scheduler() const { return scheduler_; }

  // What `unet`, weights of the model's shape, answers at `step` for `input` (batch, channels, h,
  // w) and each of `texts`, ((1 | batch), tokens, width): raw outputs of the shape of `input`, in
  // the order of `texts`, from one call. `layers` see it with a stream a text.
  std::vector<at::Tensor> Predict(const StateDict& unet, const at::Tensor& input, int64_t step,
                                  const std::vector<at::Tensor>& texts,
                                  LayerHooks* layers = nullptr) const;

  // Before an update: the step, its input and its predictions as of Predict. Returns the raw
  // prediction that the update follows.
  using Visit = std::function<at::Tensor(int64_t step, const at::Tensor& input,
                                         const std::vector<at::Tensor>& predictions)>;
  // From unit normal `noise` (batch, channels, h, w) to the input of step `end`, whose predictions
  // are not made any more; end = steps(): to the final latents. Differentiable.
  at::Tensor Walk(const StateDict& unet, const at::Tensor& noise, int64_t end,
                  const std::vector<at::Tensor>& texts, const Visit& visit,
                  LayerHooks* layers = nullptr) const;

 private:
  const Backbone& model_;
  SchedulerConfig scheduler_;
  std::vector<double> timesteps_;
  std::vector<NoiseLevel> levels_;
};

}  // namespace excise
