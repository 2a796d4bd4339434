// A results file with its rows against a fresh run of the same experiment.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "experiments/lab/lab.h"
#include "experiments/results/record.h"

namespace excise {

struct ReplayCheck {
  std::vector<std::string> problems;  // the file's value first; empty: verified
  bool same_numerics = true;
  int64_t records = 0, rows = 0;  // compared
  int64_t otherwise = 0;  // of these rows came out otherwise, as far as rounding explains it
};

// Holds `results` and `rows` against `replayed`, which has the records that `chosen` accepts, or
// all of them. `read` is ResultsFromJson of the file. On the same numerics everything must be the
// same, byte for byte. Else what was asked must be; what was measured may differ as far as rounding
// explains (experiments/results/rounding.h), in each record, in the rows of each cell and in all
// rows; and what is derived must follow from the file's own samples and rows.
ReplayCheck CheckReplay(const Json& results, const std::vector<Json>& rows, const Results& read,
                        const Lab& lab, const Results& replayed,
                        const std::function<bool(const Json&)>& chosen);

}  // namespace excise
