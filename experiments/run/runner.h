// Runs an experiment: every stage over the grid, in parallel, from what is stored.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/store.h"
#include "core/workers.h"
#include "experiments/lab/lab.h"
#include "experiments/results/record.h"
#include "experiments/run/forecast.h"
#include "experiments/run/grid.h"
#include "experiments/run/reuse.h"

namespace excise {

// In the order in which they run.
inline const std::vector<std::string>& StageNames() {
  static const std::vector<std::string> names = {"erase", "attack", "generate", "judge", "score"};
  return names;
}

struct RunOptions {
  Shard shard;
  int workers = 1;
  std::string stage = "score";  // the last one to run
  bool force = false;
  int64_t model_memory = kModelMemory;  // bytes of edited models that are kept beside those in use
  Forecast forecast = {};               // told anew after each stage
  const Reused* reused = nullptr;       // the cells that the grid leaves out; null: it has all
};

struct RunOutcome {
  bool finished = false;  // all stages ran, so there are records
  Results results;
  int64_t failures = 0;  // units of work that threw
};

// A unit that throws is reported and costs its records; the run goes on. Throws Interrupted, and
// Error naming one of the lab's inputs that changed since it was hashed.
RunOutcome RunExperiment(const Lab& lab, const Grid& grid, Store& store, const RunOptions& options);

// What to say where `units` of work cannot keep all workers busy, or "".
std::string TellIdleWorkers(int64_t units, int workers);

// Model name of the host's CPU, for provenance.
std::string HostCpu();

}  // namespace excise
