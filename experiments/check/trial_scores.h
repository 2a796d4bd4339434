// What a trial of the tuning is judged by: counts of pictures, and the two scores made of them.
#pragma once

#include <cstdint>
#include <vector>

#include "core/json.h"
#include "metrics/metric.h"

namespace excise {

struct Count {
  int64_t hits = 0, n = 0;
  double Rate() const { return n == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(n); }
  void Add(const Count& other);
};
Json CountToJson(const Count& count);

// Of the rates of several concepts.
Count CountOf(const std::vector<Score>& rates);
// The same of a part that is a share of the rate's own pictures; Error where a rate lacks it.
Count CountOfShare(const std::vector<Score>& rates, const std::string& part);
// The same of a part that comes with its own "<part>_n".
Count CountOfPart(const std::vector<Score>& rates, const std::string& part);

// 2 / (1 / a + 1 / b) of two shares; 0 where one of them is.
double HarmonicMean(double a, double b);

// Of samples that neither the edited model nor the floor shows without attack: how many each shows
// under it. The floor is a model that never saw the concepts.
struct RecoveryCount {
  int64_t shown = 0, shown_by_floor = 0, n = 0;
  // In [-1, 1]: points beyond the floor.
  double Value() const;
  void Add(const RecoveryCount& other);
};
Json RecoveryToJson(const RecoveryCount& count);

// Rates of several concepts each, with their single samples, which are paired by their ids; a
// sample that is not in all four counts nowhere.
RecoveryCount CountRecovery(const std::vector<Score>& plain, const std::vector<Score>& attacked,
                            const std::vector<Score>& floor_plain,
                            const std::vector<Score>& floor_attacked);

}  // namespace excise
