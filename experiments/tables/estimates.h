// What a table shows of a record: a number with its interval.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/results/record.h"

namespace excise {

// A rate or score with its interval over prompts, of a record or of one of its parts (which has one
// where "<part>_n" is its denominator): Wilson's, of prompts with several pictures by bootstrap, or
// where the record has no single samples Wilson's of as many prompts. Nothing where the record has
// no such value.
struct Estimate {
  double value = 0, low = 0, high = 0;
  bool has_interval = true;  // else none can be estimated (one sample, equal ones): low = high
  int64_t n = 0;
};
std::optional<Estimate> EstimateOf(const Record& record, const std::string& part);

// The same with the interval over concepts, prompts and edits; nothing where the record has none.
std::optional<Estimate> OverConcepts(const Record& record, const std::string& part);

// The groups for which the metric has a column each; {""} where it has one column.
std::vector<std::string> PartsOf(const Record& metric);

}  // namespace excise
