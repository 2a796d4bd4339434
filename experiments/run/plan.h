// What a run would do, before it does anything, and how long it would take here.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/store.h"
#include "experiments/lab/lab.h"
#include "experiments/run/forecast.h"
#include "experiments/run/grid.h"
#include "experiments/run/runner.h"

namespace excise {

// Units of work of a stage: how many are stored, and what each missing one computes, in passes of
// the models.
struct StagePlan {
  int64_t stored = 0;
  std::vector<Work> missing;
};
using Plan = std::map<std::string, StagePlan>;  // by StageNames()

// A unit that several cells share counts once.
Plan MakePlan(const Lab& lab, const Grid& grid, const std::function<bool(const Json&)>& is_stored);

// What `plan` needs of this machine, measured in less than a second with models of the embedded
// backbone's size, and in next to no time where the run is short or nothing is missing.
PassTimes MeasureFor(const Lab& lab, const Plan& plan, const RunOptions& options);

// Wall seconds of the stages that `options` asks for; what is stored counts as nothing.
Forecast MakeForecast(const Plan& plan, const PassTimes& times, const RunOptions& options);

// The first line of a run: how long it will take.
std::string ForecastLine(const Lab& lab, const Forecast& forecast, int workers);

// Cells, units stored and missing by stage, U-Net evaluations and the time that they take here.
std::string DescribePlan(const Lab& lab, const Grid& grid, const Plan& plan,
                         const RunOptions& options);

// Why units are missing: for each stage and plug-in, what changed since the nearest stored work
// that is like its first missing one, in words.
std::string ExplainMissing(const Lab& lab, const Grid& grid, Store& store);

}  // namespace excise
