// Samplers that follow the probability flow in sigma: Euler, Euler ancestral and linear multistep.
// Latents are x0 + sigma epsilon; the model sees them divided by sqrt(sigma^2 + 1).
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "models/samplers/samplers.h"
#include "models/samplers/timesteps.h"

namespace excise {
namespace {

class SigmaSampler : public Sampler {
 public:
  SigmaSampler(const SchedulerConfig& config, int64_t n) : config_(config) {
    NoiseLevels levels = SpacedNoiseLevels(config, n);
    timesteps_ = std::move(levels.timesteps);
    sigmas_ = std::move(levels.sigmas);
  }

  double init_noise_sigma() const override {
    const double high = *std::max_element(sigmas_.begin(), sigmas_.end());
    // As if the picture's own unit variance were added, where the first step is not the noisiest.
    return config_.timestep_spacing == "leading" ? std::sqrt(high * high + 1) : high;
  }

  at::Tensor ScaleInput(const at::Tensor& latents, size_t index) override {
    return latents * Level(index).signal;
  }

  NoiseLevel Level(size_t index) const override {
    const double sigma = sigmas_.at(index), root = std::sqrt(sigma * sigma + 1);
    return {1 / root, sigma / root};
  }

 protected:
  // d x / d sigma, which is the predicted noise.
  at::Tensor Derivative(const at::Tensor& output, size_t index, const at::Tensor& x) const {
    if (config_.prediction_type == "epsilon") return output;
    const NoiseLevel level = Level(index);
    if (config_.prediction_type == "v_prediction") {
      return level.signal * output + (level.signal * level.noise) * x;
    }
    return (x - output) / sigmas_.at(index);
  }
  double Sigma(size_t index) const { return sigmas_.at(index); }

 private:
  SchedulerConfig config_;
  std::vector<double> sigmas_;
};

class Euler : public SigmaSampler {
 public:
  using SigmaSampler::SigmaSampler;
  at::Tensor Step(const at::Tensor& model_output, size_t index, const at::Tensor& x) override {
    return x + Derivative(model_output, index, x) * (Sigma(index + 1) - Sigma(index));
  }
};

class EulerAncestral : public SigmaSampler {
 public:
  EulerAncestral(const SchedulerConfig& config, int64_t n, StepNoise noise)
      : SigmaSampler(config, n), noise_(std::move(noise)) {}

  at::Tensor Step(const at::Tensor& model_output, size_t index, const at::Tensor& x) override {
    const double from = Sigma(index), to = Sigma(index + 1);
    const double up = std::sqrt(to * to * (from * from - to * to)) / from;
    const double down = std::sqrt(to * to - up * up);
    const at::Tensor lower = x + Derivative(model_output, index, x) * (down - from);
    // Drawn at the last step too, where it counts nothing: a shared generator goes on alike.
    return lower + noise_(index, lower) * up;
  }

 private:
  StepNoise noise_;
};

class Lms : public SigmaSampler {
 public:
  Lms(const SchedulerConfig& config, int64_t n, size_t first_step)
      : SigmaSampler(config, n), order_("LMS", first_step) {}
  at::Tensor Step(const at::Tensor& model_output, size_t index, const at::Tensor& x) override {
    constexpr size_t kOrder = 4;
    order_.Check(index);
    history_.push_front(Derivative(model_output, index, x));
    if (history_.size() > kOrder) history_.pop_back();
    at::Tensor result = x;
    for (size_t j = 0; j < history_.size(); ++j) {
      result = result + Coefficient(index, j) * history_[j];
    }
    return result;
  }

 private:
  // The integral from sigma_i to sigma_{i+1} of the Lagrange polynomial that is 1 at sigma_{i-j}
  // and 0 at the other levels of the history. Two Gauss points are exact up to degree 3.
  double Coefficient(size_t index, size_t j) const {
    const double a = Sigma(index), b = Sigma(index + 1);
    double integral = 0;
    for (const double node : {-1 / std::sqrt(3.0), 1 / std::sqrt(3.0)}) {
      const double tau = (a + b) / 2 + node * (b - a) / 2;
      double product = 1;
      for (size_t k = 0; k < history_.size(); ++k) {
        if (k == j) continue;
        product *= (tau - Sigma(index - k)) / (Sigma(index - j) - Sigma(index - k));
      }
      integral += product * (b - a) / 2;
    }
    return integral;
  }

  InOrder order_;
  std::deque<at::Tensor> history_;  // newest first
};

}  // namespace

std::unique_ptr<Sampler> MakeEuler(const SchedulerConfig& config, int64_t num_inference_steps,
                                   SamplerOptions /*options*/) {
  return std::make_unique<Euler>(config, num_inference_steps);
}

std::unique_ptr<Sampler> MakeEulerAncestral(const SchedulerConfig& config,
                                            int64_t num_inference_steps, SamplerOptions options) {
  return std::make_unique<EulerAncestral>(config, num_inference_steps, std::move(options.noise));
}

std::unique_ptr<Sampler> MakeLms(const SchedulerConfig& config, int64_t num_inference_steps,
                                 SamplerOptions options) {
  return std::make_unique<Lms>(config, num_inference_steps, options.first_step);
}

}  // namespace excise
