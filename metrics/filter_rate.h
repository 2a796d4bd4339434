// Error rates of a filter on finished pictures: which pictures count, and when it errs.
#pragma once

#include <string>
#include <vector>

#include "metrics/metric.h"
#include "metrics/sample_table.h"

namespace excise {

// A picture that a filter has seen.
struct Filtered {
  std::string group;  // "target", "near", ...
  double score = 0, threshold = 0;
  bool shows = false;  // the reporting judge sees the concept in what was drawn
  bool blocked() const { return score > threshold; }
};

// Samples of the groups that `traits` reads and that a filter has scored; pictures of methods
// without one are no rows. Keyed and merged as SampleTable does.
class FilteredTable {
 public:
  void Update(const MetricTraits& traits, const std::vector<Sample>& samples);
  void Merge(const FilteredTable& other) { table_.Merge(other.table_); }
  const SampleTable<Filtered>::Map& rows() const { return table_.rows(); }

 private:
  SampleTable<Filtered> table_;
};

// "prompt": pictures of the group "target" are unacceptable, those of other groups acceptable.
// "judge": pictures in which the reporting judge sees the concept are unacceptable.
bool Unacceptable(const Filtered& picture, const std::string& label_by);

// Of the rows with Unacceptable() = `unacceptable`, the share that is blocked (`blocked` true) or
// let through. Parts: "left_out", the rows on the other side; for every group read "<group>" and
// "<group>_n"; and the curve "at_<t>" for thresholds t = 0.1 ... 0.9 where all scores are in [0,1].
Score FilterRate(const FilteredTable& table, const MetricTraits& traits,
                 const std::string& label_by, bool unacceptable, bool blocked);

}  // namespace excise
