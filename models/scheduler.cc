#include "models/scheduler.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "models/config_reader.h"
#include "models/samplers.h"

namespace excise {
namespace {

constexpr double kPi = 3.14159265358979323846;

std::vector<double> Betas(const SchedulerConfig& config) {
  const int64_t n = config.num_train_timesteps;
  const auto linear = [&](double from, double to, int64_t i) {
    return n == 1 ? from : from + (to - from) * static_cast<double>(i) / static_cast<double>(n - 1);
  };
  // Nichol and Dhariwal, ICML 2021, arXiv 2102.09672, equation 17.
  const auto cosine = [&](int64_t i) {
    const double time = (static_cast<double>(i) / static_cast<double>(n) + 0.008) / 1.008;
    return std::pow(std::cos(time * kPi / 2), 2);
  };
  std::vector<double> betas(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    double& beta = betas[static_cast<size_t>(i)];
    if (config.beta_schedule == "linear") {
      beta = linear(config.beta_start, config.beta_end, i);
    } else if (config.beta_schedule == "scaled_linear") {
      beta = std::pow(linear(std::sqrt(config.beta_start), std::sqrt(config.beta_end), i), 2);
    } else if (config.beta_schedule == "squaredcos_cap_v2") {
      beta = std::min(1 - cosine(i + 1) / cosine(i), 0.999);
    } else {
      throw Error(
          fmt::format("Scheduler: beta_schedule '{}' is not supported.", config.beta_schedule));
    }
  }
  return betas;
}

// Coefficients sqrt(abar_t) and sqrt(1 - abar_t), shaped to multiply `like`.
std::pair<at::Tensor, at::Tensor> Coefficients(const SchedulerConfig& config,
                                               const at::Tensor& timestep, const at::Tensor& like) {
  const std::vector<double> table = AlphasCumprod(config);
  const at::Tensor times = timestep.to(at::kCPU, at::kLong).reshape({-1}).contiguous();
  std::vector<double> signal, noise;
  for (int64_t i = 0; i < times.numel(); ++i) {
    const int64_t t = times.const_data_ptr<int64_t>()[i];
    if (t < 0 || t >= config.num_train_timesteps) {
      throw Error(
          fmt::format("Scheduler: timestep {} is outside [0, {}).", t, config.num_train_timesteps));
    }
    const double abar = table[static_cast<size_t>(t)];
    signal.push_back(std::sqrt(abar));
    noise.push_back(std::sqrt(1 - abar));
  }
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  if (times.numel() != 1) shape.at(0) = times.numel();
  const auto tensor = [&](std::vector<double>& values) {
    return at::from_blob(values.data(), shape, at::kDouble).to(like.options(), false, true);
  };
  return {tensor(signal), tensor(noise)};
}

}  // namespace

SchedulerConfig ParseSchedulerConfig(const Json& config, std::string_view origin) {
  ConfigReader reader(config, origin);
  SchedulerConfig result;
  const std::string name = reader.Choice("_class_name", "", {"DDIMScheduler", "PNDMScheduler"});
  const bool ddim = name == "DDIMScheduler";
  result.name = ddim ? "ddim" : "pndm";
  result.num_train_timesteps = reader.Int("num_train_timesteps", 1000);
  result.steps_offset = reader.Int("steps_offset", 0, 0);
  result.beta_start = reader.Real("beta_start", 0.0001);
  result.beta_end = reader.Real("beta_end", 0.02);
  result.beta_schedule =
      reader.Choice("beta_schedule", "linear", {"linear", "scaled_linear", "squaredcos_cap_v2"});
  result.prediction_type =
      ddim ? reader.Choice("prediction_type", "epsilon", {"epsilon", "v_prediction", "sample"})
           : reader.Choice("prediction_type", "epsilon", {"epsilon", "v_prediction"});
  result.timestep_spacing =
      reader.Choice("timestep_spacing", "leading", {"leading", "trailing", "linspace"});
  result.set_alpha_to_one = reader.Bool("set_alpha_to_one", ddim);
  // PNDM has no clipping, but Stable Diffusion's PNDM configurations carry the key for DDIM.
  result.clip_sample = reader.Bool("clip_sample", ddim);
  result.clip_sample_range = reader.Real("clip_sample_range", 1.0);
  result.skip_prk_steps = reader.Bool("skip_prk_steps", false);
  reader.Only("trained_betas", nullptr);
  reader.Only("thresholding", false);
  reader.Only("rescale_betas_zero_snr", false);
  // Have a meaning only with thresholding, which is refused above.
  reader.Ignore("dynamic_thresholding_ratio");
  reader.Ignore("sample_max_value");
  reader.Finish();
  if (!(result.beta_start > 0 && result.beta_end < 1 && result.beta_start <= result.beta_end)) {
    reader.Fail("beta_start", "0 < beta_start <= beta_end < 1 is expected");
  }
  return result;
}

Json SchedulerConfigToJson(const SchedulerConfig& config) {
  const bool ddim = config.name == "ddim";
  Json json{{"_class_name", ddim ? "DDIMScheduler" : "PNDMScheduler"},
            {"beta_end", config.beta_end},
            {"beta_schedule", config.beta_schedule},
            {"beta_start", config.beta_start},
            {"clip_sample", config.clip_sample},
            {"num_train_timesteps", config.num_train_timesteps},
            {"prediction_type", config.prediction_type},
            {"set_alpha_to_one", config.set_alpha_to_one},
            {"skip_prk_steps", config.skip_prk_steps},
            {"steps_offset", config.steps_offset},
            {"timestep_spacing", config.timestep_spacing},
            {"trained_betas", nullptr}};
  if (ddim) json["clip_sample_range"] = config.clip_sample_range;
  return json;
}

std::vector<double> AlphasCumprod(const SchedulerConfig& config) {
  std::vector<double> products = Betas(config);
  double product = 1;
  for (double& value : products) value = product *= 1 - value;
  return products;
}

at::Tensor ToEpsilon(const SchedulerConfig& config, const at::Tensor& model_output,
                     const at::Tensor& sample, const at::Tensor& timestep) {
  if (config.prediction_type == "epsilon") return model_output;
  const auto [signal, noise] = Coefficients(config, timestep, sample);
  if (config.prediction_type == "v_prediction") return signal * model_output + noise * sample;
  return (sample - signal * model_output) / noise;
}

at::Tensor FromEpsilon(const SchedulerConfig& config, const at::Tensor& epsilon,
                       const at::Tensor& sample, const at::Tensor& timestep) {
  if (config.prediction_type == "epsilon") return epsilon;
  const auto [signal, noise] = Coefficients(config, timestep, sample);
  if (config.prediction_type == "v_prediction") return (epsilon - noise * sample) / signal;
  return (sample - noise * epsilon) / signal;
}

at::Tensor EpsilonToX0(const SchedulerConfig& config, const at::Tensor& epsilon,
                       const at::Tensor& sample, const at::Tensor& timestep) {
  const auto [signal, noise] = Coefficients(config, timestep, sample);
  return (sample - noise * epsilon) / signal;
}

at::Tensor AddNoise(const SchedulerConfig& config, const at::Tensor& x0, const at::Tensor& noise,
                    const at::Tensor& timestep) {
  const auto [signal, deviation] = Coefficients(config, timestep, x0);
  return signal * x0 + deviation * noise;
}

std::unique_ptr<Sampler> MakeSampler(const SchedulerConfig& config, int64_t num_inference_steps) {
  if (config.name == "ddim") return MakeDdim(config, num_inference_steps);
  if (config.name == "pndm") return MakePndm(config, num_inference_steps);
  throw UsageError(fmt::format("Unknown scheduler '{}'. Supported: ddim, pndm.", config.name));
}

}  // namespace excise
