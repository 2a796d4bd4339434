// The figure of a log of trials.
#pragma once

#include <string>
#include <vector>

#include "experiments/check/tune.h"

namespace excise {

// An SVG file: removal against retention, a panel a method with something to tune. "": there is
// none.
std::string TrialsSvg(const std::vector<Tuning>& tunings);

}  // namespace excise
