#include "models/samplers/scheduler.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "core/error.h"
#include "models/samplers/samplers.h"

namespace excise {
namespace {

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

// Coefficients are doubles or tensors of one per sample.
template <class Coefficient>
at::Tensor OutputToEpsilon(const SchedulerConfig& config, const at::Tensor& output,
                           const at::Tensor& sample, const Coefficient& signal,
                           const Coefficient& noise) {
  if (config.prediction_type == "epsilon") return output;
  if (config.prediction_type == "v_prediction") return signal * output + noise * sample;
  return (sample - signal * output) / noise;
}

template <class Coefficient>
at::Tensor EpsilonToOutput(const SchedulerConfig& config, const at::Tensor& epsilon,
                           const at::Tensor& sample, const Coefficient& signal,
                           const Coefficient& noise) {
  if (config.prediction_type == "epsilon") return epsilon;
  if (config.prediction_type == "v_prediction") return (epsilon - noise * sample) / signal;
  return (sample - noise * epsilon) / signal;
}

}  // namespace

at::Tensor ToEpsilon(const SchedulerConfig& config, const at::Tensor& model_output,
                     const at::Tensor& sample, NoiseLevel level) {
  return OutputToEpsilon(config, model_output, sample, level.signal, level.noise);
}

at::Tensor FromEpsilon(const SchedulerConfig& config, const at::Tensor& epsilon,
                       const at::Tensor& sample, NoiseLevel level) {
  return EpsilonToOutput(config, epsilon, sample, level.signal, level.noise);
}

at::Tensor ToEpsilon(const SchedulerConfig& config, const at::Tensor& model_output,
                     const at::Tensor& sample, const at::Tensor& timestep) {
  if (config.prediction_type == "epsilon") return model_output;
  const auto [signal, noise] = Coefficients(config, timestep, sample);
  return OutputToEpsilon(config, model_output, sample, signal, noise);
}

at::Tensor FromEpsilon(const SchedulerConfig& config, const at::Tensor& epsilon,
                       const at::Tensor& sample, const at::Tensor& timestep) {
  if (config.prediction_type == "epsilon") return epsilon;
  const auto [signal, noise] = Coefficients(config, timestep, sample);
  return EpsilonToOutput(config, epsilon, sample, signal, noise);
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

double AncestralDeviation(NoiseLevel from, NoiseLevel to) {
  const double kept = from.signal * from.signal / (to.signal * to.signal);
  const double share = to.noise * to.noise / (from.noise * from.noise);
  return std::sqrt(std::max(share * (1 - kept), 0.0));
}

bool IsStochastic(const SchedulerConfig& config, double eta) {
  return config.name == "ddpm" || config.name == "euler_ancestral" ||
         (config.name == "ddim" && eta > 0) ||
         (config.name == "dpmsolver" && config.algorithm_type == "sde-dpmsolver++");
}

std::unique_ptr<Sampler> MakeSampler(const SchedulerConfig& config, int64_t num_inference_steps,
                                     SamplerOptions options) {
  using Maker = std::unique_ptr<Sampler> (*)(const SchedulerConfig&, int64_t, SamplerOptions);
  static const std::map<std::string, Maker> kMakers = {{"ddim", MakeDdim},
                                                       {"ddpm", MakeDdpm},
                                                       {"dpmsolver", MakeDpmSolver},
                                                       {"euler", MakeEuler},
                                                       {"lms", MakeLms},
                                                       {"pndm", MakePndm},
                                                       {"euler_ancestral", MakeEulerAncestral}};
  const std::string name = CheckedSchedulerName(config.name);
  if (!(options.eta >= 0 && options.eta <= 1)) {
    throw UsageError(fmt::format("eta is {}; a number in [0, 1] is expected.", options.eta));
  }
  if (options.eta > 0 && name != "ddim") {
    throw UsageError(fmt::format(
        "eta is {}, but only the scheduler 'ddim' has that choice, not '{}'.", options.eta, name));
  }
  if (options.first_step > 0 && name == "pndm") {
    throw UsageError(
        "PNDM begins with calls that belong together, so none of them can be skipped. Take another "
        "scheduler, as in --set sampler.scheduler=ddim.");
  }
  if (IsStochastic(config, options.eta) && !options.noise) {
    throw Error(fmt::format(
        "The scheduler '{}' adds noise at every step, and nothing supplies it here. Choose one "
        "that adds none: ddim, dpmsolver, euler, lms or pndm.",
        name));
  }
  return kMakers.at(name)(config, num_inference_steps, std::move(options));
}

}  // namespace excise
