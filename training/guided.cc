#include "training/guided.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "models/nets/unet.h"

namespace excise {
namespace {

SchedulerConfig UnclippedDdim(const SchedulerConfig& own) {
  SchedulerConfig config = own.name == "ddim" ? own : WithScheduler(own, "ddim");
  config.clip_sample = false;
  return config;
}

}  // namespace

at::Tensor GuidedPrediction(const at::Tensor& empty, const at::Tensor& text, double scale) {
  return empty.add(text.sub(empty), scale);
}

at::Tensor X0At(NoiseLevel level, const at::Tensor& input, const at::Tensor& epsilon) {
  return (input - level.noise * epsilon) / std::max(level.signal, kLeastSignal);
}

NoiseLevel LevelOf(const SchedulerConfig& config, int64_t timestep) {
  const double abar = AlphasCumprod(config).at(static_cast<size_t>(timestep));
  return {std::sqrt(abar), std::sqrt(1 - abar)};
}

GuidedTrajectory::GuidedTrajectory(const Backbone& model, int64_t steps)
    : model_(model), scheduler_(UnclippedDdim(model.scheduler)) {
  const std::unique_ptr<Sampler> sampler = MakeSampler(scheduler_, steps);
  timesteps_ = sampler->timesteps();
  for (size_t i = 0; i < timesteps_.size(); ++i) levels_.push_back(sampler->Level(i));
}

std::vector<at::Tensor> GuidedTrajectory::Predict(const StateDict& unet, const at::Tensor& input,
                                                  int64_t step,
                                                  const std::vector<at::Tensor>& texts,
                                                  LayerHooks* layers) const {
  const int64_t batch = input.size(0);
  std::vector<at::Tensor> states;
  for (const at::Tensor& text : texts) states.push_back(text.expand({batch, -1, -1}));
  const at::Tensor time = at::full({}, timestep(step), at::kFloat);
  if (layers != nullptr) layers->Begin({step, static_cast<int64_t>(texts.size()), batch});
  const at::Tensor output =
      UNetForward(model_.unet_config, unet, at::cat(std::vector<at::Tensor>(texts.size(), input)),
                  time, at::cat(states), layers);
  return output.split(batch);
}

at::Tensor GuidedTrajectory::Walk(const StateDict& unet, const at::Tensor& noise, int64_t end,
                                  const std::vector<at::Tensor>& texts, const Visit& visit,
                                  LayerHooks* layers) const {
  // DDIM starts at unit deviation and shows the model its latents as they are.
  const std::unique_ptr<Sampler> sampler = MakeSampler(scheduler_, steps());
  at::Tensor latents = noise.to(texts.front().device());
  for (int64_t step = 0; step < end; ++step) {
    const at::Tensor prediction = visit(step, latents, Predict(unet, latents, step, texts, layers));
    latents = sampler->Step(prediction, static_cast<size_t>(step), latents);
  }
  return latents;
}

}  // namespace excise
