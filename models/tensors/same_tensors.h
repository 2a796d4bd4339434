// Whether two sets of weights are the same model's.
#pragma once

#include "models/tensors/state_dict.h"

namespace excise {

// The same names, sizes and values, bit for bit (NaN is never the same). Tensors that are shared
// are not read.
bool SameTensors(const StateDict& a, const StateDict& b);

}  // namespace excise
