// What a run would do, before it does anything.
#pragma once

#include <string>

#include "core/store.h"
#include "experiments/lab/lab.h"
#include "experiments/run/grid.h"

namespace excise {

// Cells, units stored and missing by stage, U-Net evaluations and an estimate of the time from a
// short calibration of the U-Net.
std::string DescribePlan(const Lab& lab, const Grid& grid, Store& store, int workers);

// Why units are missing: for each stage and plug-in, what changed since the nearest stored work
// that is like its first missing one, in words.
std::string ExplainMissing(const Lab& lab, const Grid& grid, Store& store);

}  // namespace excise
