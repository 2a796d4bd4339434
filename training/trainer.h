// The shared training core: which parameters move, by which optimiser and schedule, how the loop
// accumulates, clips, averages, checkpoints, resumes bit for bit, stops early and fails loudly.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "models/tensors/state_dict.h"
#include "training/optimizers.h"

namespace excise {

struct ScheduleSpec {
  std::string name = "constant";  // constant | linear | cosine; after warm-up and hold
  int64_t warmup_steps = 0;       // linear from 0
  int64_t hold_steps = 0;         // at full rate before the decay
  double final_fraction = 0.0;    // of lr, at the last step
};
// Factor of lr at `step` (0-based) of `total`. Throws UsageError for an unknown schedule.
double ScheduleFactor(const ScheduleSpec& spec, int64_t step, int64_t total);

// Names matched by any of `patterns` (ECMAScript, searched) and by none of `except`. Only floating
// point tensors count, and batch-norm statistics never do. Throws UsageError when a pattern matches
// nothing, is no regular expression, or when `except` leaves nothing.
std::vector<std::string> SelectParameters(const StateDict& weights,
                                          const std::vector<std::string>& patterns,
                                          const std::vector<std::string>& except = {});

// Batch-norm statistics (running_mean, running_var, num_batches_tracked): a forward pass updates
// them in place, and no optimiser may touch them.
bool IsStatistic(const std::string& name);

struct TrainSpec {
  int64_t steps = 1000;
  int64_t accumulate = 1;  // micro-batches a step; the gradient is their mean
  OptimizerSpec optimizer;
  ScheduleSpec schedule;
  double clip_norm = 0;  // 0 = off; L2 norm over all parameters
  double ema_decay = 0;  // 0 = off; see training/ema.h
  // Numbers of parameters that may move (bool tensors by name, see training/saliency.h): gradients
  // are 0 elsewhere, before their norm is taken. What it does not name moves freely. Not together
  // with weight decay, which moves everything.
  StateDict mask;
  // Parameters that the loss never reaches stay as they are, which is told as a warning unless it
  // is known beforehand.
  bool some_without_gradient = false;
  int64_t checkpoint_every = 0;      // steps; 0 = never
  std::filesystem::path checkpoint;  // file; a run resumes from it when it exists
  std::string label = "train";       // for progress
  // `validate` (lower is better) runs every `validate_every` steps, on the average where there is
  // one. With patience > 0 training ends after so many validations in a row without a new best one
  // by any criterion.
  int64_t validate_every = 0, patience = 0;
};

// What a validation says: one value, or one by each of several criteria, the same number each time.
// Lower is better.
struct Validation {
  Validation(double value) : values{value} {}
  Validation(std::vector<double> all) : values(std::move(all)) {}
  std::vector<double> values;
};

struct TrainResult {
  StateDict weights;           // the full dict: trained ones (the average where asked for) detached
  std::vector<double> losses;  // one a step
  std::vector<double> validations;  // one a validation and criterion, by validation
  // With patience > 0: for each criterion the full dict of its best validation.
  std::vector<StateDict> best;
  int64_t steps_run = 0;
  bool stopped_early = false;
};

// One micro-batch: weights (leaves require grad), step, micro index -> scalar loss. All randomness
// must come from Philox streams keyed by (step, micro), so that a resumed run repeats itself.
using LossFunction =
    std::function<at::Tensor(const StateDict& weights, int64_t step, int64_t micro)>;
using ValidateFunction = std::function<Validation(const StateDict& weights)>;

// Trains the tensors `names` (float32 or float64) of `initial`, which is never changed; the others
// stay shared with it, except batch-norm statistics (running_mean, running_var,
// num_batches_tracked), which are copied, so that the loss may update them in place.
// Resumes from spec.checkpoint bit for bit; a checkpoint of other settings throws Error. A
// non-finite loss or gradient throws Error naming step and label; an interrupt checkpoints and
// throws Interrupted. With patience > 0 the weights of the best validation (by the first criterion)
// are returned.
TrainResult Train(const StateDict& initial, const std::vector<std::string>& names,
                  const TrainSpec& spec, const LossFunction& loss,
                  const ValidateFunction& validate = nullptr);

}  // namespace excise
