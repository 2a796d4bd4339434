// Ranks of methods and how far they hold, as a document.
#pragma once

#include "experiments/results/ranks.h"
#include "experiments/tables/table.h"

namespace excise {

Document DescribeRanks(const Ranks& ranks);

}  // namespace excise
