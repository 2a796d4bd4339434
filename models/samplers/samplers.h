// The samplers behind MakeSampler, and what they share.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "models/samplers/scheduler.h"

namespace excise {

// Song et al., ICLR 2021, arXiv 2010.02502.
std::unique_ptr<Sampler> MakeDdim(const SchedulerConfig& config, int64_t num_inference_steps,
                                  SamplerOptions options);
// Ho et al., NeurIPS 2020, arXiv 2006.11239: ancestral, between the timesteps that are visited.
std::unique_ptr<Sampler> MakeDdpm(const SchedulerConfig& config, int64_t num_inference_steps,
                                  SamplerOptions options);
// Liu et al., ICLR 2022, arXiv 2202.09778: linear multistep, with or without Runge-Kutta warm-up.
std::unique_ptr<Sampler> MakePndm(const SchedulerConfig& config, int64_t num_inference_steps,
                                  SamplerOptions options);
// Euler steps of the probability flow in sigma (Karras et al., NeurIPS 2022, arXiv 2206.00364,
// algorithm 2 without churn).
std::unique_ptr<Sampler> MakeEuler(const SchedulerConfig& config, int64_t num_inference_steps,
                                   SamplerOptions options);
// Euler steps to a lower sigma, then fresh noise back up.
std::unique_ptr<Sampler> MakeEulerAncestral(const SchedulerConfig& config,
                                            int64_t num_inference_steps, SamplerOptions options);
// Linear multistep of order 4 in sigma, its coefficients integrated exactly.
std::unique_ptr<Sampler> MakeLms(const SchedulerConfig& config, int64_t num_inference_steps,
                                 SamplerOptions options);
// Lu et al., arXiv 2211.01095: multistep DPM-Solver++ of order 1 to 3, and its SDE form.
std::unique_ptr<Sampler> MakeDpmSolver(const SchedulerConfig& config, int64_t num_inference_steps,
                                       SamplerOptions options);

// x0 as the model predicts it, before any clipping.
at::Tensor PredictedX0(const SchedulerConfig& config, const at::Tensor& model_output,
                       const at::Tensor& sample, NoiseLevel level);
// x0 clipped to +-clip_sample_range, or dynamically thresholded (Saharia et al., NeurIPS 2022,
// arXiv 2205.11487, section 2.3), or as it is.
at::Tensor ClippedX0(const SchedulerConfig& config, at::Tensor x0);

// Throws Error unless the steps of a sampler that keeps a history are called in order, from `first`
// on.
class InOrder {
 public:
  explicit InOrder(const char* sampler, size_t first = 0) : sampler_(sampler), calls_(first) {}
  void Check(size_t index);

 private:
  const char* sampler_;
  size_t calls_;
};

}  // namespace excise
