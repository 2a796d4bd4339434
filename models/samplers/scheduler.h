// Samplers: from a noise prediction to the next latents. Formulae as in diffusers' schedulers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "models/formats/scheduler_config.h"

namespace excise {

// How much picture and noise the model sees at one step: input = signal x0 + noise epsilon, with
// signal^2 + noise^2 = 1.
struct NoiseLevel {
  double signal, noise;
};

// Unit normal noise of the shape and type of `like` for U-Net call `index`; asked in the order of
// the calls, and only where the sampler adds noise.
using StepNoise = std::function<at::Tensor(size_t index, const at::Tensor& like)>;

struct SamplerOptions {
  double eta = 0;   // ddim: 0 = deterministic, 1 = as much noise as ddpm
  StepNoise noise;  // what stochastic samplers need
  // The first step that is taken: a history begins there. PNDM takes all of them.
  size_t first_step = 0;
};

// One image batch's sampler state; a new object for every batch.
class Sampler {
 public:
  virtual ~Sampler() = default;
  // Timesteps in the order of U-Net calls (PNDM repeats one); some samplers interpolate.
  const std::vector<double>& timesteps() const { return timesteps_; }
  // The first latents are unit normal noise times this.
  virtual double init_noise_sigma() const { return 1.0; }
  // Latents -> what the model sees.
  virtual at::Tensor ScaleInput(const at::Tensor& latents, size_t /*index*/) { return latents; }
  virtual NoiseLevel Level(size_t index) const = 0;
  // Raw model output at timesteps()[index] -> latents for the next call.
  virtual at::Tensor Step(const at::Tensor& model_output, size_t index,
                          const at::Tensor& latents) = 0;

 protected:
  std::vector<double> timesteps_;
};
// Throws UsageError when the schedule does not allow that number of steps, and Error for a sampler
// that adds noise when `options` has none.
std::unique_ptr<Sampler> MakeSampler(const SchedulerConfig& config, int64_t num_inference_steps,
                                     SamplerOptions options = {});
// The standard deviation of what DDPM adds between two levels, to what the model sees (its smaller
// variance; DDIM with eta = 1 adds as much).
double AncestralDeviation(NoiseLevel from, NoiseLevel to);
// Whether the sampler draws noise after the first latents.
bool IsStochastic(const SchedulerConfig& config, double eta = 0);

// The same conversions at a sampler's own level; see below.
at::Tensor ToEpsilon(const SchedulerConfig& config, const at::Tensor& model_output,
                     const at::Tensor& sample, NoiseLevel level);
at::Tensor FromEpsilon(const SchedulerConfig& config, const at::Tensor& epsilon,
                       const at::Tensor& sample, NoiseLevel level);

// Raw model output -> epsilon, for the config's prediction type; timestep (batch) or scalar, int64.
at::Tensor ToEpsilon(const SchedulerConfig& config, const at::Tensor& model_output,
                     const at::Tensor& sample, const at::Tensor& timestep);
// The inverse: epsilon -> what a model of the config's prediction type would have returned.
at::Tensor FromEpsilon(const SchedulerConfig& config, const at::Tensor& epsilon,
                       const at::Tensor& sample, const at::Tensor& timestep);
// epsilon -> x0 = (x - sqrt(1 - abar_t) epsilon) / sqrt(abar_t).
at::Tensor EpsilonToX0(const SchedulerConfig& config, const at::Tensor& epsilon,
                       const at::Tensor& sample, const at::Tensor& timestep);
// sqrt(abar_t) x0 + sqrt(1 - abar_t) noise; timestep (batch) int64.
at::Tensor AddNoise(const SchedulerConfig& config, const at::Tensor& x0, const at::Tensor& noise,
                    const at::Tensor& timestep);

}  // namespace excise
