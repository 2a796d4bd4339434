#include "models/samplers/timesteps.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace excise {
namespace {

void CheckCount(const SchedulerConfig& config, int64_t n) {
  if (n >= 1 && n <= config.num_train_timesteps) return;
  throw UsageError(
      fmt::format("{} sampling steps: 1 to {} are possible.", n, config.num_train_timesteps));
}

void CheckFirst(const SchedulerConfig& config, int64_t n, int64_t first) {
  if (first < config.num_train_timesteps) return;
  throw UsageError(
      fmt::format("{} sampling steps with steps_offset {} would begin at timestep {}, but the "
                  "model was trained on 0 to {}. Ask for fewer steps.",
                  n, config.steps_offset, first, config.num_train_timesteps - 1));
}

// std::nearbyint rounds half to even, as numpy does.
int64_t Round(double value) { return static_cast<int64_t>(std::nearbyint(value)); }

// numpy.linspace(0, last, n), ascending.
std::vector<double> Linspace(double last, int64_t n) {
  std::vector<double> values(static_cast<size_t>(n), 0.0);
  if (n == 1) return values;
  const double gap = last / static_cast<double>(n - 1);
  for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = static_cast<double>(i) * gap;
  values.back() = last;
  return values;
}

// numpy.arange(last, 0, -gap).round() - 1, ascending. The gap is what is left of it after numpy's
// first subtraction, which decides ties. (numpy sometimes finds one element more, at timestep -1,
// for example for 61 steps of 1000; here there are as many as were asked for.)
std::vector<int64_t> Trailing(double last, double gap) {
  const double rounded = (last - gap) - last;
  std::vector<int64_t> steps;
  for (int64_t i = 0;; ++i) {
    const double value = last + static_cast<double>(i) * rounded;
    if (value < 1e-6) break;
    steps.push_back(Round(value) - 1);
  }
  std::reverse(steps.begin(), steps.end());
  return steps;
}

// sqrt((1 - abar) / abar) of every training timestep, in single precision as in diffusers: Karras'
// spacing and truncated timesteps follow its rounding.
std::vector<double> SigmaTable(const SchedulerConfig& config) {
  std::vector<double> alphas = SinglePrecisionAlphasCumprod(config);
  // Infinite noise cannot be computed with: diffusers puts this in the place of an abar of 0.
  if (config.rescale_betas_zero_snr) alphas.back() = std::ldexp(1.0, -24);
  std::vector<double> sigmas;
  for (const double value : alphas) {
    const auto abar = static_cast<float>(value);
    sigmas.push_back(std::sqrt((1 - abar) / abar));
  }
  return sigmas;
}

// `table` at a position between its entries.
double Interpolate(const std::vector<double>& table, double at) {
  const double last = static_cast<double>(table.size() - 1);
  const double position = std::clamp(at, 0.0, last);
  const auto low = static_cast<size_t>(position);
  if (low + 1 >= table.size()) return table.back();
  const double weight = position - static_cast<double>(low);
  return table[low] + weight * (table[low + 1] - table[low]);
}

// Where `sigma` stands in the schedule, linear in log sigma between two timesteps.
double TimestepOf(double sigma, const std::vector<double>& sigmas) {
  if (sigmas.size() < 2) return 0;
  const auto log_at = [&](int64_t t) {
    return static_cast<double>(std::log(static_cast<float>(sigmas[static_cast<size_t>(t)])));
  };
  const double value = std::log(sigma);
  int64_t low = static_cast<int64_t>(sigmas.size()) - 2;
  while (low > 0 && log_at(low) > value) --low;
  const double weight = (log_at(low) - value) / (log_at(low) - log_at(low + 1));
  return static_cast<double>(low) + std::clamp(weight, 0.0, 1.0);
}

// n sigmas from `high` to `low`, as the config says.
std::vector<double> Spread(const SchedulerConfig& config, double high, double low, int64_t n) {
  constexpr double kRho = 7;  // Karras et al., table 1
  std::vector<double> sigmas;
  const std::vector<double> ramp = Linspace(1, n);
  for (const double r : ramp) {
    if (config.sigma_schedule == "karras") {
      const double from = std::pow(high, 1 / kRho), to = std::pow(low, 1 / kRho);
      sigmas.push_back(std::pow(from + r * (to - from), kRho));
    } else {
      sigmas.push_back(std::exp(std::log(high) + r * (std::log(low) - std::log(high))));
    }
  }
  return sigmas;
}

double FinalSigma(const SchedulerConfig& config, const std::vector<double>& table) {
  return config.final_sigmas_type == "sigma_min" ? table.front() : 0;
}

}  // namespace

std::vector<int64_t> SpacedTimesteps(const SchedulerConfig& config, int64_t n) {
  CheckCount(config, n);
  const int64_t total = config.num_train_timesteps;
  std::vector<int64_t> steps;
  if (config.timestep_spacing == "leading") {
    for (int64_t i = 0; i < n; ++i) steps.push_back(i * (total / n) + config.steps_offset);
  } else if (config.timestep_spacing == "linspace") {
    for (const double step : Linspace(static_cast<double>(total - 1), n)) {
      steps.push_back(Round(step));
    }
  } else if (config.timestep_spacing == "trailing") {
    const auto last = static_cast<double>(total);
    steps = Trailing(last, last / static_cast<double>(n));
  } else {
    throw Error(
        fmt::format("Scheduler: timestep_spacing '{}' is not supported.", config.timestep_spacing));
  }
  CheckFirst(config, n, steps.back());
  return steps;
}

NoiseLevels SpacedNoiseLevels(const SchedulerConfig& config, int64_t n) {
  CheckCount(config, n);
  const std::vector<double> table = SigmaTable(config);
  NoiseLevels levels;
  if (config.timestep_spacing == "linspace") {
    for (const double step : Linspace(static_cast<double>(config.num_train_timesteps - 1), n)) {
      levels.timesteps.push_back(static_cast<float>(step));  // what the model is shown
    }
  } else {
    for (const int64_t step : SpacedTimesteps(config, n)) {
      levels.timesteps.push_back(static_cast<double>(step));
    }
  }
  std::reverse(levels.timesteps.begin(), levels.timesteps.end());
  for (const double t : levels.timesteps) levels.sigmas.push_back(Interpolate(table, t));
  if (config.sigma_schedule != "timesteps") {
    const double high = config.sigma_max > 0 ? config.sigma_max : levels.sigmas.front();
    const double low = config.sigma_min > 0 ? config.sigma_min : levels.sigmas.back();
    levels.sigmas = Spread(config, high, low, n);
    for (size_t i = 0; i < levels.sigmas.size(); ++i) {
      levels.timesteps[i] = static_cast<float>(TimestepOf(levels.sigmas[i], table));
    }
  }
  levels.sigmas.push_back(FinalSigma(config, table));
  return levels;
}

NoiseLevels SolverNoiseLevels(const SchedulerConfig& config, int64_t n) {
  CheckCount(config, n);
  const std::vector<double> table = SigmaTable(config);
  // lambda = -log sigma; timesteps whose lambda lies below the limit are left out.
  const auto clipped = std::count_if(table.begin(), table.end(), [&](double sigma) {
    return -std::log(sigma) < config.lambda_min_clipped;
  });
  const int64_t last = config.num_train_timesteps - clipped;
  if (last < 1) {
    throw UsageError(fmt::format("Scheduler: lambda_min_clipped {} leaves no timestep.",
                                 config.lambda_min_clipped));
  }
  std::vector<int64_t> steps;  // ascending
  if (config.timestep_spacing == "leading") {
    const int64_t gap = last / (n + 1);
    if (gap == 0) {
      throw UsageError(
          fmt::format("{} sampling steps: at most {} are possible here.", n, last - 1));
    }
    for (int64_t i = 1; i <= n; ++i) steps.push_back(i * gap + config.steps_offset);
  } else if (config.timestep_spacing == "linspace") {
    const std::vector<double> all = Linspace(static_cast<double>(last - 1), n + 1);
    for (size_t i = 1; i < all.size(); ++i) steps.push_back(Round(all[i]));
  } else {
    steps = Trailing(static_cast<double>(last),
                     static_cast<double>(config.num_train_timesteps) / static_cast<double>(n));
  }
  CheckFirst(config, n, steps.back());
  NoiseLevels levels;
  if (config.sigma_schedule == "timesteps") {
    levels.timesteps.assign(steps.rbegin(), steps.rend());
    for (const double t : levels.timesteps) levels.sigmas.push_back(Interpolate(table, t));
  } else {
    levels.sigmas = Spread(config, table.back(), table.front(), n);
    const bool rounds =
        config.sigma_schedule == "karras" && config.beta_schedule != "squaredcos_cap_v2";
    for (const double sigma : levels.sigmas) {
      const double t = TimestepOf(sigma, table);
      levels.timesteps.push_back(rounds ? std::nearbyint(t) : std::trunc(t));
    }
  }
  levels.sigmas.push_back(FinalSigma(config, table));
  return levels;
}

}  // namespace excise
