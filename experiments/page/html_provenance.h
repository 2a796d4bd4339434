// The part of a page that says where its numbers come from and how to have them again.
#pragma once

#include <string>

#include "experiments/results/record.h"

namespace excise {

// HTML. `profile`: the one to name where the results do not tell how the program was called.
std::string HtmlProvenance(const Results& results, const std::string& profile);

}  // namespace excise
