// What came out of the published claims, as a page: docs/published.md.
#pragma once

#include <string>
#include <vector>

#include "experiments/check/published.h"

namespace excise {

// Markdown: numbers that cannot be as printed, sources that contradict each other, what was
// registered before the run, then every paper's claims, and how to decide what is open.
std::string RenderPublished(const std::vector<ClaimOutcome>& outcomes);

}  // namespace excise
