// Which timesteps and noise levels a sampler visits. Knows no tensors.
#pragma once

#include <cstdint>
#include <vector>

#include "models/formats/scheduler_config.h"

namespace excise {

// `n` training timesteps in ascending order, spaced as the config says (Lin et al., WACV 2024,
// arXiv 2305.08891, table 2), rounded half to even as numpy does. Throws UsageError when there are
// not that many.
std::vector<int64_t> SpacedTimesteps(const SchedulerConfig& config, int64_t n);

// What samplers that work on noise levels visit: sigma = sqrt((1 - abar) / abar).
struct NoiseLevels {
  std::vector<double> timesteps;  // descending; with fractions where sigmas are interpolated
  std::vector<double> sigmas;     // one more: the level that the last step ends at
};

// lms, euler, euler_ancestral. Throws UsageError as SpacedTimesteps.
NoiseLevels SpacedNoiseLevels(const SchedulerConfig& config, int64_t n);
// dpmsolver, which counts the last timestep as a step's end and so spaces otherwise.
NoiseLevels SolverNoiseLevels(const SchedulerConfig& config, int64_t n);

}  // namespace excise
