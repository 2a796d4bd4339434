// Methods that are asked for some of the concepts only: what their numbers say together.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/tables/table.h"

namespace excise {

struct PartialEstimate {
  Estimate estimate;                  // over the pictures of these concepts
  std::vector<std::string> concepts;  // that have a number
};

// `whole` is the record over all concepts and not applicable. Nothing where no concept has a number
// or where the metric is no mean over samples: distances of sets do not average.
std::optional<PartialEstimate> EstimateOverSome(const TableView& view, const Record& whole,
                                                const std::string& part);

}  // namespace excise
