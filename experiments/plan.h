// What a run would do, before it does anything; and what there is to run.
#pragma once

#include <string>

#include "core/store.h"
#include "experiments/grid.h"
#include "experiments/lab.h"

namespace excise {

// Cells, units stored and missing by stage, U-Net evaluations and an estimate of the time from a
// short calibration of the U-Net.
std::string DescribePlan(const Lab& lab, const Grid& grid, Store& store, int workers);

// Why units are missing: for each stage and plug-in, how the first missing key differs from the
// nearest stored one.
std::string ExplainMissing(const Lab& lab, const Grid& grid, Store& store);

// Every registered plug-in with what its card says, its version and its parameters.
std::string ListPlugins();

}  // namespace excise
