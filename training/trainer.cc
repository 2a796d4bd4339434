#include "training/trainer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/progress.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "training/ema.h"
#include "training/saliency.h"

namespace excise {
namespace {

// What a checkpoint must agree on to be continued. A constant schedule may be prolonged; the others
// depend on the number of steps.
Json Fingerprint(const TrainSpec& spec, const std::vector<std::string>& names) {
  const OptimizerSpec& o = spec.optimizer;
  const ScheduleSpec& s = spec.schedule;
  Json json = {{"format", 2},
               {"accumulate", spec.accumulate},
               {"optimizer", o.name},
               {"lr", o.lr},
               {"beta1", o.beta1},
               {"beta2", o.beta2},
               {"eps", o.eps},
               {"weight_decay", o.weight_decay},
               {"momentum", o.momentum},
               {"schedule", s.name},
               {"warmup_steps", s.warmup_steps},
               {"clip_norm", spec.clip_norm},
               {"ema_decay", spec.ema_decay},
               {"validate_every", spec.validate_every},
               {"patience", spec.patience},
               {"parameters", names.size()}};
  if (spec.mask.size() > 0) json["mask"] = MaskDigest(spec.mask);
  if (s.name != "constant") {
    json["steps"] = spec.steps;
    json["hold_steps"] = s.hold_steps;
    json["final_fraction"] = s.final_fraction;
  }
  return json;
}

std::string BestName(size_t criterion, const std::string& name) {
  return fmt::format("best.{}.{}", criterion, name);
}

at::Tensor BytesToTensor(const std::string& bytes) {
  at::Tensor t = at::empty({static_cast<int64_t>(bytes.size())}, at::kByte);
  std::memcpy(t.data_ptr(), bytes.data(), bytes.size());
  return t;
}

std::string TensorToBytes(const at::Tensor& t) {
  const at::Tensor flat = t.contiguous();
  return std::string(static_cast<const char*>(flat.data_ptr()), flat.nbytes());
}

std::vector<double> TensorToDoubles(const at::Tensor& t) {
  const at::Tensor flat = t.to(at::kDouble).contiguous();
  return std::vector<double>(flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel());
}

void CheckSpec(const TrainSpec& spec, const std::vector<std::string>& names,
               const ValidateFunction& validate) {
  const auto fail = [&](const std::string& why) {
    throw UsageError(fmt::format("Training '{}': {}", spec.label, why));
  };
  if (spec.steps < 1) fail(fmt::format("steps is {}; it must be at least 1", spec.steps));
  if (spec.accumulate < 1) {
    fail(fmt::format("accumulate is {}; it must be at least 1", spec.accumulate));
  }
  if (!(spec.clip_norm >= 0)) fail("clip_norm must be at least 0 (0 = off)");
  if (spec.checkpoint_every < 0) fail("checkpoint_every must be at least 0 (0 = never)");
  if (spec.checkpoint_every > 0 && spec.checkpoint.empty()) {
    fail("checkpoint_every is set but no checkpoint file is named");
  }
  if (spec.mask.size() > 0 && spec.optimizer.weight_decay != 0) {
    fail("weight_decay would move what the mask holds still; leave one of them out");
  }
  if (spec.validate_every < 0 || spec.patience < 0) fail("validate_every and patience are >= 0");
  if (spec.validate_every > 0 && !validate) fail("validate_every is set without a validation");
  if (spec.patience > 0 && spec.validate_every == 0) fail("patience needs validate_every > 0");
  if (names.empty()) fail("no parameters to train");
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (!seen.insert(name).second) fail(fmt::format("parameter '{}' is listed twice", name));
    if (IsStatistic(name)) fail(fmt::format("'{}' is a statistic, not a parameter", name));
  }
  ScheduleFactor(spec.schedule, 0, spec.steps);  // throws for a bad schedule, before any work
}

class Trainer {
 public:
  Trainer(const StateDict& initial, const std::vector<std::string>& names, const TrainSpec& spec,
          const LossFunction& loss, const ValidateFunction& validate);
  TrainResult Run();

 private:
  void MakeLeaves(const StateDict& initial);
  double AccumulateGradients(int64_t step);  // the mean loss; gradients stay in the leaves
  void Update(int64_t step);
  void Validate(int64_t step);
  bool OutOfPatience() const;
  StateDict Outcome() const;  // weights with the average in place of the leaves, detached
  void Save();
  void Resume();
  void LeaveIfInterrupted();
  [[noreturn]] void FailNonFinite(const std::string& what, int64_t step, double value) const;
  // Step of the checkpoint on disk, for messages; -1 = none.
  int64_t saved_step_ = -1;

  const std::vector<std::string> names_;
  const TrainSpec& spec_;
  const LossFunction& loss_;
  const ValidateFunction& validate_;
  StateDict weights_;
  std::vector<at::Tensor> leaves_;
  std::vector<at::Tensor> masks_;  // by leaf; undefined where all of it moves
  std::vector<std::string> buffers_;
  std::optional<Optimizer> optimizer_;
  std::optional<Ema> ema_;
  // Of the best validation by each criterion, when patience > 0: parameters and buffers.
  std::vector<StateDict> best_;
  std::vector<double> losses_;
  std::vector<std::vector<double>> validations_;  // by criterion
};

Trainer::Trainer(const StateDict& initial, const std::vector<std::string>& names,
                 const TrainSpec& spec, const LossFunction& loss, const ValidateFunction& validate)
    : names_(names), spec_(spec), loss_(loss), validate_(validate), weights_(initial) {
  CheckSpec(spec, names, validate);
  MakeLeaves(initial);
  optimizer_.emplace(spec.optimizer, names_, leaves_);
  if (spec.ema_decay != 0) ema_.emplace(spec.ema_decay, leaves_);
  if (!spec.checkpoint.empty() && std::filesystem::exists(spec.checkpoint)) Resume();
}

void Trainer::MakeLeaves(const StateDict& initial) {
  for (const std::string& name : names_) {
    const at::Tensor& source = initial.Get(name);
    if (source.scalar_type() != at::kFloat && source.scalar_type() != at::kDouble) {
      throw Error(
          fmt::format("Training '{}': '{}' is {}; train float32 or float64 weights (use "
                      "Autocast in the loss for lower precision)",
                      spec_.label, name, c10::toString(source.scalar_type())));
    }
    at::Tensor leaf = source.detach().clone(at::MemoryFormat::Contiguous);
    leaf.set_requires_grad(true);
    leaves_.push_back(leaf);
    weights_.Set(name, leaf);
  }
  masks_ = MasksOf(spec_.mask, names_, leaves_);
  for (const auto& [name, tensor] : initial) {
    if (!IsStatistic(name)) continue;
    buffers_.push_back(name);
    weights_.Set(name, tensor.detach().clone());
  }
}

void Trainer::FailNonFinite(const std::string& what, int64_t step, double value) const {
  throw Error(fmt::format(
      "Training '{}': {} is {} at step {} of {}. The rate ({}) is probably too high, or the loss "
      "divides by zero or takes a logarithm of it. {}",
      spec_.label, what, value, step, spec_.steps, spec_.optimizer.lr,
      saved_step_ < 0 ? std::string("No checkpoint was written; lower the rate or clip, and start "
                                    "again.")
                      : fmt::format("The checkpoint of step {} still stands: '{}'.", saved_step_,
                                    spec_.checkpoint.string())));
}

double Trainer::AccumulateGradients(int64_t step) {
  for (at::Tensor& leaf : leaves_) leaf.mutable_grad().reset();
  double total = 0;
  for (int64_t micro = 0; micro < spec_.accumulate; ++micro) {
    const at::Tensor loss = loss_(weights_, step, micro);
    if (!loss.defined() || loss.numel() != 1 || !loss.requires_grad()) {
      throw Error(fmt::format(
          "Training '{}': the loss at step {} {}", spec_.label, step,
          !loss.defined() || loss.numel() != 1
              ? "is not a scalar; reduce it with mean()"
              : "does not depend on any trained parameter; check the names, and that no NoGrad "
                "scope is open"));
    }
    const double value = loss.item<double>();
    if (!std::isfinite(value)) FailNonFinite("the loss", step, value);
    total += value;
    Backward(spec_.accumulate == 1 ? loss : loss.div(static_cast<double>(spec_.accumulate)));
  }
  return total / static_cast<double>(spec_.accumulate);
}

void Trainer::Update(int64_t step) {
  std::vector<at::Tensor> gradients;
  std::vector<std::string> idle;
  for (size_t i = 0; i < leaves_.size(); ++i) {
    gradients.push_back(leaves_[i].grad());
    if (!gradients.back().defined()) {
      idle.push_back(names_[i]);
    } else if (masks_[i].defined()) {
      gradients.back() = gradients.back() * masks_[i];
    }
  }
  if (step == 0 && !idle.empty() && !spec_.some_without_gradient) {
    LogWarning(fmt::format("Training '{}': {} of {} parameters get no gradient (first: '{}')",
                           spec_.label, idle.size(), names_.size(), idle.front()));
  }
  const double norm = GlobalNorm(gradients);
  if (!std::isfinite(norm)) FailNonFinite("the gradient norm", step, norm);
  if (spec_.clip_norm > 0) ClipByNorm(&gradients, spec_.clip_norm, norm);
  optimizer_->Step(gradients, ScheduleFactor(spec_.schedule, step, spec_.steps));
  for (at::Tensor& leaf : leaves_) leaf.mutable_grad().reset();
  if (ema_) ema_->Update(leaves_);
}

StateDict Trainer::Outcome() const {
  StateDict out = weights_;
  for (size_t i = 0; i < names_.size(); ++i) {
    out.Set(names_[i], ema_ ? ema_->shadow()[i] : leaves_[i].detach());
  }
  return out;
}

void Trainer::Validate(int64_t step) {
  const NoGrad no_grad;
  const StateDict candidate = Outcome();
  const std::vector<double> values = validate_(candidate).values;
  if (validations_.empty()) validations_.resize(values.size());
  if (values.empty() || values.size() != validations_.size()) {
    throw Error(fmt::format(
        "Training '{}': the validation at step {} gives {} values after {} before; it must give "
        "one for each criterion every time",
        spec_.label, step, values.size(), validations_.size()));
  }
  best_.resize(spec_.patience > 0 ? values.size() : 0);
  for (size_t k = 0; k < values.size(); ++k) {
    if (!std::isfinite(values[k])) FailNonFinite("the validation", step, values[k]);
    std::vector<double>& past = validations_[k];
    const bool best = past.empty() || values[k] < *std::min_element(past.begin(), past.end());
    past.push_back(values[k]);
    if (!best || spec_.patience == 0) continue;
    for (const std::string& name : names_) best_[k].Set(name, candidate.Get(name).clone());
    for (const std::string& name : buffers_) best_[k].Set(name, candidate.Get(name).clone());
  }
}

bool Trainer::OutOfPatience() const {
  if (spec_.patience == 0 || validations_.empty()) return false;
  for (const std::vector<double>& past : validations_) {
    const auto best = std::min_element(past.begin(), past.end());
    if (past.end() - best - 1 < spec_.patience) return false;
  }
  return true;
}

void Trainer::Save() {
  const NoGrad no_grad;
  StateDict file;
  for (size_t i = 0; i < names_.size(); ++i) {
    file.Set("weights." + names_[i], leaves_[i].detach());
    if (ema_) file.Set("ema." + names_[i], ema_->shadow()[i]);
  }
  for (const std::string& name : buffers_) file.Set("weights." + name, weights_.Get(name));
  for (size_t k = 0; k < best_.size(); ++k) {
    for (const auto& [name, tensor] : best_[k]) file.Set(BestName(k, name), tensor);
  }
  for (const auto& [name, tensor] : optimizer_->State()) file.Set("optimizer." + name, tensor);
  if (!losses_.empty()) file.Set("losses", at::tensor(losses_, at::kDouble));
  for (size_t k = 0; k < validations_.size(); ++k) {
    file.Set(fmt::format("validations.{}", k), at::tensor(validations_[k], at::kDouble));
  }
  file.Set("spec", BytesToTensor(CanonicalJson(Fingerprint(spec_, names_))));
  SaveSafetensors(spec_.checkpoint, file,
                  {{"label", spec_.label}, {"step", std::to_string(losses_.size())}});
  saved_step_ = static_cast<int64_t>(losses_.size());
}

void Trainer::Resume() {
  const StateDict file = LoadSafetensors(spec_.checkpoint, /*upcast=*/false);
  const std::string origin = spec_.checkpoint.string();
  const Json saved = ParseJson(TensorToBytes(file.Get("spec")), origin);
  const Json wanted = Fingerprint(spec_, names_);
  if (saved != wanted) {
    std::string difference;
    for (const Json& change : Json::diff(saved, wanted)) {
      difference += fmt::format(" {}", change.at("path").get<std::string>());
    }
    throw Error(
        fmt::format("Training '{}' cannot go on from '{}': it was made with other settings "
                    "(differs in:{}). Remove the file to start again",
                    spec_.label, origin, difference));
  }
  const NoGrad no_grad;
  const auto restore = [&](const std::string& name, const at::Tensor& target) {
    const at::Tensor& source = file.Get(name);
    if (source.sizes() != target.sizes() || source.scalar_type() != target.scalar_type()) {
      throw Error(
          fmt::format("Training '{}' cannot go on from '{}': tensor '{}' has another shape "
                      "or type. Remove the file to start again",
                      spec_.label, origin, name));
    }
    at::Tensor destination = target;
    destination.copy_(source);
  };
  for (size_t i = 0; i < names_.size(); ++i) {
    restore("weights." + names_[i], leaves_[i].detach());
    if (ema_) restore("ema." + names_[i], ema_->shadow()[i]);
  }
  for (const std::string& name : buffers_) restore("weights." + name, weights_.Get(name));
  StateDict moments;
  for (const auto& [name, tensor] : optimizer_->State()) {
    moments.Set(name, file.Get("optimizer." + name));
  }
  optimizer_->Load(moments);
  if (file.Contains("losses")) losses_ = TensorToDoubles(file.Get("losses"));
  for (size_t k = 0; file.Contains(fmt::format("validations.{}", k)); ++k) {
    validations_.push_back(TensorToDoubles(file.Get(fmt::format("validations.{}", k))));
    if (spec_.patience == 0) continue;
    best_.emplace_back();
    for (const auto& list : {names_, buffers_}) {
      for (const std::string& name : list) {
        best_[k].Set(name, file.Get(BestName(k, name)).to(weights_.Get(name).device()));
      }
    }
  }
  if (ema_) ema_->Resume(static_cast<int64_t>(losses_.size()));
  saved_step_ = static_cast<int64_t>(losses_.size());
  LogInfo(fmt::format("Training '{}' goes on from step {} of {} ('{}')", spec_.label,
                      losses_.size(), spec_.steps, origin));
}

void Trainer::LeaveIfInterrupted() {
  if (!InterruptRequested()) return;
  const auto done = static_cast<int64_t>(losses_.size());
  if (!spec_.checkpoint.empty() && saved_step_ != done) {
    Save();
    LogInfo(fmt::format("Training '{}' stopped after step {}; run again to go on from '{}'",
                        spec_.label, done, spec_.checkpoint.string()));
  }
  throw Interrupted{};
}

TrainResult Trainer::Run() {
  Progress progress(spec_.label, spec_.steps, "steps");
  if (!losses_.empty()) progress.Advance(static_cast<int64_t>(losses_.size()));
  bool stopped = OutOfPatience();
  for (auto step = static_cast<int64_t>(losses_.size()); step < spec_.steps && !stopped; ++step) {
    LeaveIfInterrupted();
    const double loss = AccumulateGradients(step);
    Update(step);
    losses_.push_back(loss);
    if (spec_.validate_every > 0 && (step + 1) % spec_.validate_every == 0) {
      Validate(step);
      stopped = OutOfPatience();
    }
    if (spec_.checkpoint_every > 0 &&
        ((step + 1) % spec_.checkpoint_every == 0 || step + 1 == spec_.steps || stopped)) {
      Save();
    }
    progress.Advance(1, fmt::format("loss {:.4g}", loss));
  }
  TrainResult result;
  result.weights = Outcome();
  for (const StateDict& best : best_) {
    result.best.push_back(result.weights);
    result.best.back().Merge(best);
  }
  if (!result.best.empty()) result.weights = result.best[0];
  result.losses = losses_;
  for (size_t i = 0; !validations_.empty() && i < validations_[0].size(); ++i) {
    for (const std::vector<double>& past : validations_) result.validations.push_back(past[i]);
  }
  result.steps_run = static_cast<int64_t>(losses_.size());
  result.stopped_early = stopped && result.steps_run < spec_.steps;
  return result;
}

}  // namespace

TrainResult Train(const StateDict& initial, const std::vector<std::string>& names,
                  const TrainSpec& spec, const LossFunction& loss,
                  const ValidateFunction& validate) {
  return Trainer(initial, names, spec, loss, validate).Run();
}

}  // namespace excise
