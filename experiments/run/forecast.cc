#include "experiments/run/forecast.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <mutex>

#include "core/stopwatch.h"
#include "core/workers.h"
#include "models/tensors/autograd.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

// One call of each pass on zeros: no kernel takes longer for other values.
class Bench {
 public:
  explicit Bench(const Lab& lab) : lab_(lab) {}

  void Call(Pass pass, int64_t rows) const {
    if (pass == Pass::kUNetGradient) {
      return Gradient(States(rows), [&](const at::Tensor& x) { return UNet(x); });
    }
    if (pass == Pass::kTextGradient) {
      return Gradient(Embeddings(rows), [&](const at::Tensor& x) { return Text(x); });
    }
    const NoGrad no_grad;
    // A read of the result waits for a device that computes apart.
    Forward(pass, rows).sum().item<double>();
  }

 private:
  at::Tensor Forward(Pass pass, int64_t rows) const {
    const Backbone& model = lab_.backbone;
    const int64_t side = lab_.PictureSide();
    if (pass == Pass::kUNet) return UNet(States(rows));
    if (pass == Pass::kText) return Text(Embeddings(rows));
    if (pass == Pass::kDecoder) return DecodeImages(model, Latents(rows));
    if (pass == Pass::kVision) {
      const ClipModel& clip = lab_.reference_clip;
      if (clip.weights.size() == 0) return at::zeros({1});  // nobody reads one here
      const at::Tensor pixels =
          ClipPreprocess(clip.config.vision, at::zeros({rows, 3, side, side}));
      return ClipVisionPooled(clip.config.vision, clip.weights, pixels);
    }
    // Not zeros: a judge may see at once that a uniform picture shows nothing.
    const at::Tensor pixels = at::arange(rows * 3 * side * side).remainder(251).to(at::kByte);
    return lab_.JudgeOf(0).plugin->Report(pixels.view({rows, 3, side, side})).scores;
  }

  static void Gradient(const at::Tensor& input,
                       const std::function<at::Tensor(const at::Tensor&)>& function) {
    const at::Tensor leaf = input.detach().requires_grad_(true);
    Gradients(function(leaf).square().mean(), {leaf})[0].sum().item<double>();
  }

  at::Tensor Latents(int64_t rows) const {
    const int64_t side = lab_.backbone.unet_config.sample_size;
    return at::zeros({rows, lab_.backbone.unet_config.in_channels, side, side});
  }
  at::Tensor States(int64_t rows) const {
    return at::zeros({rows, lab_.backbone.clip.text.max_position_embeddings,
                      lab_.backbone.unet_config.cross_attention_dim});
  }
  at::Tensor UNet(const at::Tensor& states) const {
    const Backbone& model = lab_.backbone;
    return UNetForward(model.unet_config, model.unet, Latents(states.size(0)),
                       at::zeros({}, at::kLong), states);
  }
  at::Tensor Ids(int64_t rows) const {
    return at::zeros({rows, lab_.backbone.clip.text.max_position_embeddings}, at::kLong);
  }
  at::Tensor Embeddings(int64_t rows) const {
    const NoGrad no_grad;
    return ClipTokenEmbeddings(lab_.backbone.text_encoder, Ids(rows));
  }
  at::Tensor Text(const at::Tensor& embeddings) const {
    const Backbone& model = lab_.backbone;
    return ClipTextForward(model.clip.text, model.text_encoder, embeddings, Ids(embeddings.size(0)))
        .last_hidden_state;
  }

  const Lab& lab_;
};

// Of this thread: what others compute meanwhile is not in it.
double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// A call that takes longer is made once (a large model, an emulated processor): the estimate must
// not cost minutes.
constexpr double kLongCall = 0.5;

// CPU seconds of a call: the fastest of `least` or more, or the only one where that is long.
double Fastest(const std::function<void()>& call, int least, double budget) {
  const double start = CpuSeconds();
  double fastest = INFINITY;
  for (int calls = 0; calls < least || CpuSeconds() - start < budget; ++calls) {
    if (std::isfinite(fastest) && fastest > kLongCall) break;
    const double before = CpuSeconds();
    call();
    fastest = std::min(fastest, CpuSeconds() - before);
  }
  return fastest;
}

const std::map<Pass, Pass> kForward = {{Pass::kUNetGradient, Pass::kUNet},
                                       {Pass::kTextGradient, Pass::kText}};

// CPU seconds of one worker. `passes` come in an order in which forward passes are before their
// gradients.
std::map<Pass, PassTime> TimesOf(const Bench& bench, const std::set<Pass>& passes, int64_t rows,
                                 double share) {
  std::map<Pass, PassTime> times;
  for (const Pass pass : passes) {
    PassTime& time = times[pass];
    const auto forward = kForward.find(pass);
    if (forward != kForward.end() && times[forward->second].one > kLongCall) {
      // A backward pass multiplies twice for each time that the forward pass does.
      time = {3 * times[forward->second].one, 3 * times[forward->second].many};
      continue;
    }
    // The first call warms caches, which so small a one is all about.
    time.one = Fastest([&] { bench.Call(pass, 1); }, 2, share);
    if (share == 0 || time.one > kLongCall) {
      time.many = time.one * static_cast<double>(rows);
    } else if (forward != kForward.end()) {
      // A backward pass grows with the rows as the forward pass does.
      time.many = time.one * times[forward->second].many / times[forward->second].one;
    } else {
      time.many = Fastest([&] { bench.Call(pass, rows); }, 1, share);
    }
  }
  return times;
}

}  // namespace

double PassTimes::Call(Pass pass, double call_rows) const {
  const auto found = times.find(pass);
  if (found == times.end()) return 0;
  const auto& [one, many] = found->second;
  const double each = (many - one) / static_cast<double>(rows - 1);
  return std::max(one + each * (call_rows - 1), one / 10);
}

double PassTimes::Seconds(const Work& work) const {
  double seconds = 0;
  for (const Passes& passes : work) seconds += passes.calls * Call(passes.pass, passes.rows);
  return seconds;
}

Work DrawingWork(const SamplerSettings& sampler, double streams, double pictures, double batch) {
  const double batches = std::ceil(pictures / batch);
  return {{Pass::kText, batches, batch},
          {Pass::kUNet, batches * static_cast<double>(sampler.steps), streams * batch},
          {Pass::kDecoder, batches, batch}};
}

Work InModelPasses(const SamplerSettings& sampler, const Work& work) {
  Work all;
  for (const Passes& passes : work) {
    if (passes.pass != Pass::kPicture) {
      all.push_back(passes);
      continue;
    }
    const double batch = std::min(passes.rows, static_cast<double>(sampler.unit_size));
    for (Passes drawn : DrawingWork(sampler, 2, passes.rows, batch)) {
      drawn.calls *= passes.calls;
      all.push_back(drawn);
    }
  }
  return all;
}

PassTimes MeasurePasses(const Lab& lab, std::set<Pass> passes, int workers, double seconds) {
  for (const auto& [gradient, forward] : kForward) {
    if (passes.count(gradient) != 0) passes.insert(forward);
  }
  PassTimes mean;
  std::mutex mutex;
  const double share = seconds / (2 * static_cast<double>(std::max<size_t>(passes.size(), 1)));
  RunUnits(workers, workers, [&](int64_t) {
    UseOneThreadPerWorker();
    const Stopwatch watch;
    const double start = CpuSeconds();
    const std::map<Pass, PassTime> times = TimesOf(Bench(lab), passes, mean.rows, share);
    // A worker has to share this machine with others, now as later.
    const double weight = watch.Seconds() / (CpuSeconds() - start) / workers;
    const std::lock_guard<std::mutex> lock(mutex);
    for (const auto& [pass, time] : times) {
      mean.times[pass].one += weight * time.one;
      mean.times[pass].many += weight * time.many;
    }
  });
  return mean;
}

double WallSeconds(const std::vector<double>& units, int workers) {
  double sum = 0, longest = 0;
  for (const double seconds : units) {
    sum += seconds;
    longest = std::max(longest, seconds);
  }
  return std::max(longest, sum / workers);
}

std::string InWords(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", std::max<int64_t>(whole, 1));
  if (whole < 3600) {
    const int64_t rest = whole % 60;
    return fmt::format("{} min{}", whole / 60, rest == 0 ? "" : fmt::format(" {} s", rest));
  }
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

double Forecast::Total() const {
  double sum = 0;
  for (const auto& [stage, seconds] : stages_) sum += seconds;
  return sum;
}

std::string Forecast::After(const std::string& stage, double seconds) {
  const auto over = std::find_if(stages_.begin(), stages_.end(),
                                 [&](const auto& one) { return one.first == stage; });
  if (over == stages_.end()) return "";
  const double estimated = over->second;
  stages_.erase(over);
  estimated_ += estimated;
  taken_ += seconds;
  const double left = Total();
  // Stages of a second say nothing of the others.
  if (estimated < 1 || left < 1) return "";
  return fmt::format("{} took {} (estimated: {}); about {} left", stage, InWords(seconds),
                     InWords(estimated), InWords(left * taken_ / estimated_));
}

std::string CostLine(double seconds) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return fmt::format("took {}; peak memory {} MiB", InWords(seconds), usage.ru_maxrss / 1024);
}

}  // namespace excise
