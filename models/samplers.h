// The samplers behind MakeSampler.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "models/scheduler.h"

namespace excise {

// Song et al., ICLR 2021, arXiv 2010.02502, with eta = 0.
std::unique_ptr<Sampler> MakeDdim(const SchedulerConfig& config, int64_t num_inference_steps);
// Liu et al., ICLR 2022, arXiv 2202.09778: linear multistep, with or without Runge-Kutta warm-up.
std::unique_ptr<Sampler> MakePndm(const SchedulerConfig& config, int64_t num_inference_steps);

// `n` training timesteps in ascending order, spaced as the config says (Lin et al., WACV 2024,
// arXiv 2305.08891, table 2). Throws UsageError when there are not that many.
std::vector<int64_t> SpacedTimesteps(const SchedulerConfig& config, int64_t n);

}  // namespace excise
