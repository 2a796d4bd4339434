// Samplers: from a noise prediction to the next latents. Formulae as in diffusers' schedulers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace excise {

struct SchedulerConfig {
  std::string name = "ddim";  // ddim | pndm
  int64_t num_train_timesteps = 1000, steps_offset = 1;
  double beta_start = 0.00085, beta_end = 0.012;
  std::string beta_schedule = "scaled_linear";  // linear | scaled_linear | squaredcos_cap_v2
  std::string prediction_type = "epsilon";      // epsilon | v_prediction | sample
  std::string timestep_spacing = "leading";     // leading | trailing | linspace
  bool set_alpha_to_one = false, clip_sample = false, skip_prk_steps = true;
  double clip_sample_range = 1.0;  // of x0, where clip_sample is set (DDIM only)
};

// From scheduler_config.json; "_class_name" chooses the sampler.
SchedulerConfig ParseSchedulerConfig(const Json& config, std::string_view origin);
Json SchedulerConfigToJson(const SchedulerConfig& config);

// Cumulative products of (1 - beta_t), double precision, one per training timestep.
std::vector<double> AlphasCumprod(const SchedulerConfig& config);

// One image batch's sampler state; a new object for every batch.
class Sampler {
 public:
  virtual ~Sampler() = default;
  // Timesteps in the order of U-Net calls (PNDM repeats one).
  const std::vector<int64_t>& timesteps() const { return timesteps_; }
  double init_noise_sigma() const { return 1.0; }
  virtual at::Tensor ScaleInput(const at::Tensor& latents, size_t /*index*/) { return latents; }
  // Raw model output at timesteps()[index] -> latents for the next call.
  virtual at::Tensor Step(const at::Tensor& model_output, size_t index,
                          const at::Tensor& latents) = 0;

 protected:
  std::vector<int64_t> timesteps_;
};
// Throws UsageError when the schedule does not allow that number of steps.
std::unique_ptr<Sampler> MakeSampler(const SchedulerConfig& config, int64_t num_inference_steps);

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
