// What differs between two keys of the store, in words.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"

namespace excise {

// A line for each thing that changed: "the weights of the backbone: 22730235 before, 9f01c4aa now".
// Both are keys of one stage (experiments/run/keys.h). Safe for a terminal.
std::vector<std::string> KeyChanges(const Json& before, const Json& now);

}  // namespace excise
