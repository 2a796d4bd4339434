// The worst case over attacks.
#pragma once

#include <vector>

#include "metrics/metric.h"

namespace excise {

// For each sample the worst of its values under all attacks, shares in [0, 1]; over a success rate
// this is the union: a prompt counts when any attack succeeds. Where its picture is missing under
// an attack, it is missing here too, unless another attack did all that there is to do. All scores
// must be of the same samples, missing ones included (Error); with `partial`, those after the first
// may lack some of its samples: prompts that an attack left out.
Score WorstCase(const std::vector<const Score*>& attacks, bool higher_is_better,
                bool partial = false);

}  // namespace excise
