// How methods rank, and how far a ranking holds over concepts, erase seeds and guidance scales:
// derived from results files of one experiment that differ in these alone.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/stats.h"
#include "experiments/results/record.h"

namespace excise {

// What differs between the files. No two have both alike.
struct RankedRun {
  int64_t erase_seed = 0;
  double guidance = 0;
};

// Kendall's tau-b between rankings of the same methods, on average over `pairs` of rankings that do
// not tie all methods. The interval, 95 %, is a percentile bootstrap over concepts.
struct Agreement {
  int64_t pairs = 0;  // 0: there is nothing to compare
  double tau = 0;
  Interval ci;
};

struct MethodRank {
  double value = 0;  // mean over concepts and runs
  double rank = 0;   // likewise, 1 = best, of ties the middle; with its interval as above
  Interval ci;
};

struct MetricRanks {
  std::string metric;  // "removal", "retention", "harmonic mean"
  std::vector<MethodRank> methods;
  // Between two concepts in one run, each ranked by its own values; between two runs of one
  // guidance scale and other erase seeds, or of one seed and other scales, ranked by the means over
  // concepts.
  Agreement over_concepts, over_seeds, over_guidance;
};

struct Ranks {
  std::string attack;  // under which removal was scored
  std::vector<RankedRun> runs;
  std::vector<std::string> concepts, methods;
  std::vector<MetricRanks> metrics;
  // Concepts and methods that were left out, each with the reason.
  std::map<std::string, std::string> left_out;
};

// Removal is 1 - `asr` under `attack` ("none", "union", ...), retention is `retention`; their
// harmonic mean is 0 where one of them is. Ranked are all methods but the reference rows and those
// that lack a value in some run for some concept; concepts of which no method has values in all
// runs are left out. Throws UsageError for files of other experiments, two of the same seed and
// scale, an attack that is not there, or fewer than two methods or concepts.
Ranks RankMethods(const std::vector<Results>& files, const std::string& attack);

Json RanksToJson(const Ranks& ranks);

}  // namespace excise
