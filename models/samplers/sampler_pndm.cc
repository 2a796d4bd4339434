#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "models/samplers/samplers.h"
#include "models/samplers/timesteps.h"

namespace excise {
namespace {

class Pndm : public Sampler {
 public:
  Pndm(const SchedulerConfig& config, int64_t n) : config_(config), alphas_(AlphasCumprod(config)) {
    const std::vector<int64_t> ascending = SpacedTimesteps(config, n);
    stride_ = config.num_train_timesteps / n;
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
      for (const int64_t t : {start, middle, middle, end}) {
        timesteps_.push_back(static_cast<double>(t));
      }
    }
    num_runge_kutta_ = timesteps_.size();
    for (int64_t i = n - 4; i >= 0; --i) {
      timesteps_.push_back(static_cast<double>(ascending[static_cast<size_t>(i)]));
    }
  }

  NoiseLevel Level(size_t index) const override {
    const double abar = At(Timestep(index));
    return {std::sqrt(abar), std::sqrt(1 - abar)};
  }

  at::Tensor Step(const at::Tensor& model_output, size_t index, const at::Tensor& x) override {
    order_.Check(index);
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
    const int64_t to = Timestep(index) - (index % 2 == 0 ? stride_ / 2 : 0);
    return Transfer(start_, Timestep(index - phase), to, direction);
  }

  at::Tensor MultistepStep(const at::Tensor& output, size_t index, const at::Tensor& x) {
    const int64_t t = Timestep(index);
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
    const double abar = At(from), previous = At(to);
    at::Tensor epsilon = direction;
    if (config_.prediction_type == "v_prediction") {
      epsilon = std::sqrt(abar) * direction + std::sqrt(1 - abar) * x;
    }
    const double denominator =
        abar * std::sqrt(1 - previous) + std::sqrt(abar * (1 - abar) * previous);
    return std::sqrt(previous / abar) * x - ((previous - abar) / denominator) * epsilon;
  }

  int64_t Timestep(size_t index) const { return static_cast<int64_t>(timesteps_.at(index)); }
  double At(int64_t t) const {
    if (t >= 0) return alphas_.at(static_cast<size_t>(t));
    return config_.set_alpha_to_one ? 1.0 : alphas_.front();
  }

  SchedulerConfig config_;
  std::vector<double> alphas_;
  int64_t stride_;
  InOrder order_{"PNDM"};
  size_t num_runge_kutta_ = 0;
  std::vector<at::Tensor> history_;
  at::Tensor sum_, start_;
};

}  // namespace

std::unique_ptr<Sampler> MakePndm(const SchedulerConfig& config, int64_t num_inference_steps,
                                  SamplerOptions /*options*/) {
  return std::make_unique<Pndm>(config, num_inference_steps);
}

}  // namespace excise
