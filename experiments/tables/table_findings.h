// What the paired tests of a table say, in words.
#pragma once

#include "experiments/tables/table.h"
#include "experiments/tables/table_view.h"

namespace excise {

// Rows below the first one, attacks that raise a rate, recoveries above zero, and where gradient
// masking is suspected: where prompts that were found without a method's gradients, by no more
// questions, show the concept significantly more often than a search through them. A blind attack
// that beats one with full access says that the gradients mislead, not that the method holds
// (Athalye, Carlini, Wagner, ICML 2018, arXiv 1802.00420, section 3). Each test at 5 %, by itself.
Text TableFindings(const TableView& view, const std::string& metric);

}  // namespace excise
