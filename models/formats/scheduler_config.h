// scheduler_config.json as plain data, and the schedule that it describes. Knows no tensors, so
// that hostile files can be fuzzed without LibTorch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace excise {

struct SchedulerConfig {
  std::string name = "ddim";  // one of SchedulerNames()
  int64_t num_train_timesteps = 1000, steps_offset = 1;
  double beta_start = 0.00085, beta_end = 0.012;
  std::string beta_schedule = "scaled_linear";  // linear | scaled_linear | squaredcos_cap_v2
  std::string prediction_type = "epsilon";      // epsilon | v_prediction | sample
  std::string timestep_spacing = "leading";     // leading | trailing | linspace
  bool rescale_betas_zero_snr = false;          // Lin et al., WACV 2024, arXiv 2305.08891

  bool set_alpha_to_one = false;  // ddim, pndm
  bool skip_prk_steps = true;     // pndm
  // Of the predicted x0, in ddim, ddpm and (thresholding alone) dpmsolver.
  bool clip_sample = false, thresholding = false;
  double clip_sample_range = 1.0, dynamic_thresholding_ratio = 0.995, sample_max_value = 1.0;
  std::string variance_type = "fixed_small";  // ddpm: fixed_small | fixed_large

  // lms, euler, dpmsolver: noise levels of the timesteps themselves, or spread between the largest
  // and the smallest as Karras et al. do (NeurIPS 2022, arXiv 2206.00364), or evenly in log sigma.
  std::string sigma_schedule = "timesteps";    // timesteps | karras | exponential
  double sigma_min = 0, sigma_max = 0;         // their ends, where not 0 (euler)
  std::string final_sigmas_type = "zero";      // zero | sigma_min (euler, dpmsolver)
  int64_t solver_order = 2;                    // dpmsolver: 1 to 3
  std::string algorithm_type = "dpmsolver++";  // dpmsolver++ | sde-dpmsolver++
  std::string solver_type = "midpoint";        // midpoint | heun
  bool lower_order_final = true, euler_at_final = false;
  double lambda_min_clipped = -std::numeric_limits<double>::infinity();

  // What the file says, keys of other samplers included; null for a schedule made by hand.
  Json file;
};

// "ddim", "ddpm", ...: what SchedulerConfig::name and --scheduler may be.
std::vector<std::string> SchedulerNames();
// `name` may also be diffusers' class. Throws UsageError with a suggestion.
std::string CheckedSchedulerName(std::string_view name);

// From scheduler_config.json; "_class_name" chooses the sampler, whose defaults stand in for absent
// keys. Keys of other samplers are allowed, as in diffusers. Throws Error naming what is not
// supported.
SchedulerConfig ParseSchedulerConfig(const Json& config, std::string_view origin);
// scheduler_config.json of a text-to-image snapshot. Two things as diffusers' pipeline does, with a
// warning: steps_offset is taken as 1 and clip_sample as false. Python writes infinities into these
// files, which are no JSON; they are read as null.
SchedulerConfig ReadSchedulerConfig(const std::filesystem::path& path);
Json SchedulerConfigToJson(const SchedulerConfig& config);
// The configuration of another sampler (a name or a diffusers class) for the same model: as
// diffusers' `OtherScheduler.from_config(pipe.scheduler.config)`, so what the file does not say
// takes the *other* class's default. "" returns `config`. Throws UsageError for unknown names.
SchedulerConfig WithScheduler(const SchedulerConfig& config, std::string_view name);

// Cumulative products of (1 - beta_t), double precision, one per training timestep.
std::vector<double> AlphasCumprod(const SchedulerConfig& config);
// The same as diffusers computes them, rounded to single precision at every step. The differences
// show where 1 - abar or a square root's distance from the last one is small: in the sigmas of the
// first timesteps (2e-5 relative), and near the end of a schedule with zero terminal SNR, for which
// AlphasCumprod gives these numbers too.
std::vector<double> SinglePrecisionAlphasCumprod(const SchedulerConfig& config);

}  // namespace excise
