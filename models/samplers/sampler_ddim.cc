// DDIM and DDPM: both step on abar, one along the predicted noise, one with fresh noise.
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>

#include "models/samplers/samplers.h"
#include "models/samplers/timesteps.h"

namespace excise {
namespace {

std::vector<double> Descending(const std::vector<int64_t>& ascending) {
  return {ascending.rbegin(), ascending.rend()};
}

class Ddim : public Sampler {
 public:
  Ddim(const SchedulerConfig& config, int64_t n, SamplerOptions options)
      : config_(config),
        options_(std::move(options)),
        alphas_(AlphasCumprod(config)),
        final_(config.set_alpha_to_one ? 1.0 : alphas_.front()) {
    timesteps_ = Descending(SpacedTimesteps(config, n));
    stride_ = config.num_train_timesteps / n;
  }

  NoiseLevel Level(size_t index) const override {
    const double abar = At(Timestep(index));
    return {std::sqrt(abar), std::sqrt(1 - abar)};
  }

  at::Tensor Step(const at::Tensor& model_output, size_t index, const at::Tensor& x) override {
    const NoiseLevel level = Level(index);
    const double abar = At(Timestep(index)), previous = At(Timestep(index) - stride_);
    at::Tensor x0 = PredictedX0(config_, model_output, x, level);
    const at::Tensor epsilon = ToEpsilon(config_, model_output, x, level);
    // As diffusers does by default, epsilon is not recomputed from the clipped x0.
    x0 = ClippedX0(config_, x0);
    const double variance = options_.eta == 0 ? 0.0
                                              : std::pow(options_.eta, 2) * (1 - previous) /
                                                    (1 - abar) * (1 - abar / previous);
    const double along = std::sqrt(std::max(1 - previous - variance, 0.0));
    at::Tensor result = std::sqrt(previous) * x0 + along * epsilon;
    if (options_.eta > 0) result = result + std::sqrt(variance) * options_.noise(index, result);
    return result;
  }

 private:
  int64_t Timestep(size_t index) const { return static_cast<int64_t>(timesteps_.at(index)); }
  double At(int64_t t) const { return t >= 0 ? alphas_.at(static_cast<size_t>(t)) : final_; }

  SchedulerConfig config_;
  SamplerOptions options_;
  std::vector<double> alphas_;
  double final_;
  int64_t stride_;
};

class Ddpm : public Sampler {
 public:
  Ddpm(const SchedulerConfig& config, int64_t n, SamplerOptions options)
      : config_(config),
        options_(std::move(options)),
        // The variance near the end hangs on 1 - abar as diffusers rounds it.
        alphas_(SinglePrecisionAlphasCumprod(config)) {
    timesteps_ = Descending(SpacedTimesteps(config, n));
  }

  NoiseLevel Level(size_t index) const override {
    const double abar = At(index);
    return {std::sqrt(abar), std::sqrt(1 - abar)};
  }

  // Equation 7 of the paper, with x0 clipped. Coefficients in single precision as in diffusers: at
  // the last of 1000 steps their rounding is 5e-5 of the latents.
  at::Tensor Step(const at::Tensor& model_output, size_t index, const at::Tensor& x) override {
    const auto abar = static_cast<float>(At(index)), previous = static_cast<float>(At(index + 1));
    const float alpha = abar / previous, beta = 1 - alpha;
    const at::Tensor x0 = ClippedX0(config_, PredictedX0(config_, model_output, x, Level(index)));
    at::Tensor result = (std::sqrt(previous) * beta / (1 - abar)) * x0 +
                        (std::sqrt(alpha) * (1 - previous) / (1 - abar)) * x;
    if (timesteps_.at(index) > 0) {
      const float small = std::max((1 - previous) / (1 - abar) * beta, 1e-20F);
      const float variance = config_.variance_type == "fixed_large" ? beta : small;
      result = result + std::sqrt(variance) * options_.noise(index, result);
    }
    return result;
  }

 private:
  // Of the step, or 1 beyond the last one.
  double At(size_t index) const {
    return index < timesteps_.size() ? alphas_.at(static_cast<size_t>(timesteps_[index])) : 1.0;
  }

  SchedulerConfig config_;
  SamplerOptions options_;
  std::vector<double> alphas_;
};

}  // namespace

std::unique_ptr<Sampler> MakeDdim(const SchedulerConfig& config, int64_t num_inference_steps,
                                  SamplerOptions options) {
  return std::make_unique<Ddim>(config, num_inference_steps, std::move(options));
}

std::unique_ptr<Sampler> MakeDdpm(const SchedulerConfig& config, int64_t num_inference_steps,
                                  SamplerOptions options) {
  return std::make_unique<Ddpm>(config, num_inference_steps, std::move(options));
}

}  // namespace excise
