#include "models/samplers.h"

#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace excise {
namespace {

// What both samplers look up: cumulative products, with the value beyond the last step.
class Alphas {
 public:
  explicit Alphas(const SchedulerConfig& config)
      : table_(AlphasCumprod(config)), final_(config.set_alpha_to_one ? 1.0 : table_.front()) {}
  double At(int64_t t) const { return t >= 0 ? table_.at(static_cast<size_t>(t)) : final_; }

 private:
  std::vector<double> table_;
  double final_;
};

class Ddim : public Sampler {
 public:
  Ddim(const SchedulerConfig& config, int64_t n)
      : config_(config), alphas_(config), stride_(config.num_train_timesteps / n) {
    timesteps_ = SpacedTimesteps(config, n);
    std::reverse(timesteps_.begin(), timesteps_.end());
  }

  at::Tensor Step(const at::Tensor& model_output, size_t index, const at::Tensor& x) override {
    const int64_t t = timesteps_.at(index);
    const double abar = alphas_.At(t), previous = alphas_.At(t - stride_);
    const double signal = std::sqrt(abar), noise = std::sqrt(1 - abar);
    at::Tensor x0, epsilon;
    if (config_.prediction_type == "epsilon") {
      epsilon = model_output;
      x0 = (x - noise * epsilon) / signal;
    } else if (config_.prediction_type == "v_prediction") {
      x0 = signal * x - noise * model_output;
      epsilon = signal * model_output + noise * x;
    } else {
      x0 = model_output;
      epsilon = (x - signal * x0) / noise;
    }
    // As diffusers does by default, epsilon is not recomputed from the clipped x0.
    if (config_.clip_sample) {
      x0 = x0.clamp(-config_.clip_sample_range, config_.clip_sample_range);
    }
    return std::sqrt(previous) * x0 + std::sqrt(1 - previous) * epsilon;
  }

 private:
  SchedulerConfig config_;
  Alphas alphas_;
  int64_t stride_;
};

class Pndm : public Sampler {
 public:
  Pndm(const SchedulerConfig& config, int64_t n)
      : config_(config), alphas_(config), stride_(config.num_train_timesteps / n) {
    const std::vector<int64_t> ascending = SpacedTimesteps(config, n);
    if (config.skip_prk_steps) {
      timesteps_.assign(ascending.rbegin(), ascending.rend());
      // The second U-Net call corrects the first step, so its timestep appears twice.
      if (n > 1) timesteps_.insert(timesteps_.begin() + 1, timesteps_[1]);
      return;
    }
    if (n < 4) {
      throw UsageError(
          fmt::format("PNDM with Runge-Kutta steps needs at least 4 sampling steps, got {}. Ask "
                      "for more, or set "
                      "\"skip_prk_steps\": true in scheduler_config.json.",
                      n));
    }
    // Three intervals, four calls each: start, middle, middle, end.
    for (int64_t k = 0; k < 3; ++k) {
      const int64_t start = ascending[static_cast<size_t>(n - 1 - k)];
      const int64_t end = ascending[static_cast<size_t>(n - 2 - k)];
      const int64_t middle = end + stride_ / 2;
      timesteps_.insert(timesteps_.end(), {start, middle, middle, end});
    }
    num_runge_kutta_ = timesteps_.size();
    for (int64_t i = n - 4; i >= 0; --i) timesteps_.push_back(ascending[static_cast<size_t>(i)]);
  }

  at::Tensor Step(const at::Tensor& model_output, size_t index, const at::Tensor& x) override {
    if (index != calls_) {
      throw Error(
          fmt::format("PNDM keeps a history: step {} was called after step {}. Use a new "
                      "sampler for every batch and call its steps in order.",
                      index, calls_));
    }
    ++calls_;
    return index < num_runge_kutta_ ? RungeKuttaStep(model_output, index, x)
                                    : MultistepStep(model_output, index, x);
  }

 private:
  at::Tensor RungeKuttaStep(const at::Tensor& output, size_t index, const at::Tensor& x) {
    const size_t phase = index % 4;
    at::Tensor direction = output;
    if (phase == 0) {
      sum_ = output / 6;
      history_.push_back(output);
      start_ = x;
    } else if (phase < 3) {
      sum_ = sum_ + output / 3;
    } else {
      direction = sum_ + output / 6;
    }
    const int64_t to = timesteps_[index] - (index % 2 == 0 ? stride_ / 2 : 0);
    return Transfer(start_, timesteps_[index - phase], to, direction);
  }

  at::Tensor MultistepStep(const at::Tensor& output, size_t index, const at::Tensor& x) {
    const int64_t t = timesteps_[index];
    if (config_.skip_prk_steps && index == 1) {
      // Heun's correction of the first step, from where that step began.
      return Transfer(start_, t + stride_, t, (output + history_.back()) / 2);
    }
    if (history_.size() > 3) history_.erase(history_.begin(), history_.end() - 3);
    history_.push_back(output);
    if (index == 0) start_ = x;
    return Transfer(x, t, t - stride_, AdamsBashforth());
  }

  at::Tensor AdamsBashforth() const {
    const auto back = [&](size_t i) -> const at::Tensor& { return history_[history_.size() - i]; };
    switch (history_.size()) {
      case 1:
        return back(1);
      case 2:
        return (3 * back(1) - back(2)) / 2;
      case 3:
        return (23 * back(1) - 16 * back(2) + 5 * back(3)) / 12;
      default:
        return (55 * back(1) - 59 * back(2) + 37 * back(3) - 9 * back(4)) / 24;
    }
  }

  // Equation 9 of the paper: from x at timestep `from` to timestep `to` along `direction`.
  at::Tensor Transfer(const at::Tensor& x, int64_t from, int64_t to,
                      const at::Tensor& direction) const {
    const double abar = alphas_.At(from), previous = alphas_.At(to);
    at::Tensor epsilon = direction;
    if (config_.prediction_type == "v_prediction") {
      epsilon = std::sqrt(abar) * direction + std::sqrt(1 - abar) * x;
    }
    const double denominator =
        abar * std::sqrt(1 - previous) + std::sqrt(abar * (1 - abar) * previous);
    return std::sqrt(previous / abar) * x - ((previous - abar) / denominator) * epsilon;
  }

  SchedulerConfig config_;
  Alphas alphas_;
  int64_t stride_;
  size_t num_runge_kutta_ = 0, calls_ = 0;
  std::vector<at::Tensor> history_;
  at::Tensor sum_, start_;
};

}  // namespace

std::vector<int64_t> SpacedTimesteps(const SchedulerConfig& config, int64_t n) {
  const int64_t total = config.num_train_timesteps;
  if (n < 1 || n > total) {
    throw UsageError(fmt::format("{} sampling steps: 1 to {} are possible.", n, total));
  }
  std::vector<int64_t> steps(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    int64_t& step = steps[static_cast<size_t>(i)];
    // std::nearbyint rounds half to even, as numpy does.
    if (config.timestep_spacing == "leading") {
      step = i * (total / n) + config.steps_offset;
    } else if (config.timestep_spacing == "linspace") {
      const double gap = n == 1 ? 0.0 : static_cast<double>(total - 1) / static_cast<double>(n - 1);
      step = static_cast<int64_t>(std::nearbyint(static_cast<double>(i) * gap));
    } else if (config.timestep_spacing == "trailing") {
      const double gap = static_cast<double>(total) / static_cast<double>(n);
      const double below = static_cast<double>(n - 1 - i) * gap;
      step = static_cast<int64_t>(std::nearbyint(static_cast<double>(total) - below)) - 1;
    } else {
      throw Error(fmt::format("Scheduler: timestep_spacing '{}' is not supported.",
                              config.timestep_spacing));
    }
  }
  if (steps.back() >= total) {
    throw UsageError(
        fmt::format("{} sampling steps with steps_offset {} would begin at timestep {}, but the "
                    "model was trained "
                    "on 0 to {}. Ask for fewer steps.",
                    n, config.steps_offset, steps.back(), total - 1));
  }
  return steps;
}

std::unique_ptr<Sampler> MakeDdim(const SchedulerConfig& config, int64_t num_inference_steps) {
  if (num_inference_steps < 1) SpacedTimesteps(config, num_inference_steps);  // throws
  return std::make_unique<Ddim>(config, num_inference_steps);
}

std::unique_ptr<Sampler> MakePndm(const SchedulerConfig& config, int64_t num_inference_steps) {
  if (num_inference_steps < 1) SpacedTimesteps(config, num_inference_steps);  // throws
  return std::make_unique<Pndm>(config, num_inference_steps);
}

}  // namespace excise
