// Multistep DPM-Solver++ (Lu et al., arXiv 2211.01095) and its SDE form, as in diffusers: an
// exponential integrator of x0 over lambda = log(signal / noise).
#include <ATen/TensorOperators.h>

#include <cmath>
#include <deque>

#include "models/samplers/samplers.h"
#include "models/samplers/timesteps.h"

namespace excise {
namespace {

class DpmSolver : public Sampler {
 public:
  DpmSolver(const SchedulerConfig& config, int64_t n, SamplerOptions options)
      : config_(config), options_(std::move(options)), order_("DPM-Solver", options_.first_step) {
    NoiseLevels levels = SolverNoiseLevels(config, n);
    timesteps_ = std::move(levels.timesteps);
    sigmas_ = std::move(levels.sigmas);
  }

  NoiseLevel Level(size_t index) const override {
    const double sigma = sigmas_.at(index), root = std::sqrt(sigma * sigma + 1);
    return {1 / root, sigma / root};
  }

  at::Tensor Step(const at::Tensor& model_output, size_t index, const at::Tensor& x) override {
    order_.Check(index);
    history_.push_front(ClippedX0(config_, PredictedX0(config_, model_output, x, Level(index))));
    if (history_.size() > 3) history_.pop_back();
    const NoiseLevel from = Level(index), to = Level(index + 1);
    const double h = Lambda(index + 1) - Lambda(index);
    const bool sde = config_.algorithm_type == "sde-dpmsolver++";
    // The SDE form integrates over twice the interval.
    const double k = sde ? 2 * h : h;
    const double weight = -std::expm1(-k);  // 1 - e^-k
    at::Tensor result = (to.noise / from.noise * (sde ? std::exp(-h) : 1.0)) * x +
                        (to.signal * weight) * history_[0];
    const int64_t order = Order(index);
    if (order > 1) {
      const at::Tensor slope = Slope(index, h, order);
      const double first = config_.solver_type == "midpoint" && order == 2
                               ? weight / 2
                               : 1 - weight / k;  // (e^-k - 1) / k + 1
      result = result + (to.signal * first) * slope;
    }
    if (order == 3) {
      const double second = sde ? (weight - k) / (k * k) - 0.5 : (weight - k) / (k * k) + 0.5;
      result = result + (to.signal * second) * curvature_;
    }
    if (sde) {
      result = result + (to.noise * std::sqrt(-std::expm1(-2 * h))) * options_.noise(index, result);
    }
    return result;
  }

 private:
  double Lambda(size_t index) const { return -std::log(sigmas_.at(index)); }

  // Low orders where the history is short and, in few steps, near the end.
  int64_t Order(size_t index) const {
    const size_t n = timesteps_.size();
    const bool few = config_.lower_order_final && n < 15;
    const size_t taken = index - options_.first_step;
    int64_t order = std::min<int64_t>(config_.solver_order, static_cast<int64_t>(taken) + 1);
    if (index + 1 == n && (config_.euler_at_final || few || config_.final_sigmas_type == "zero")) {
      order = 1;
    }
    if (index + 2 == n && few) order = std::min<int64_t>(order, 2);
    return order;
  }

  // Finite differences of x0 over lambda, in units of h; the third order sets curvature_ as well.
  at::Tensor Slope(size_t index, double h, int64_t order) {
    const double r0 = (Lambda(index) - Lambda(index - 1)) / h;
    const at::Tensor near = (history_[0] - history_[1]) / r0;
    if (order == 2) return near;
    const double r1 = (Lambda(index - 1) - Lambda(index - 2)) / h;
    const at::Tensor change = near - (history_[1] - history_[2]) / r1;
    curvature_ = change / (r0 + r1);
    return near + (r0 / (r0 + r1)) * change;
  }

  SchedulerConfig config_;
  SamplerOptions options_;
  std::vector<double> sigmas_;
  InOrder order_;
  std::deque<at::Tensor> history_;  // x0, newest first
  at::Tensor curvature_;
};

}  // namespace

std::unique_ptr<Sampler> MakeDpmSolver(const SchedulerConfig& config, int64_t num_inference_steps,
                                       SamplerOptions options) {
  return std::make_unique<DpmSolver>(config, num_inference_steps, std::move(options));
}

}  // namespace excise
