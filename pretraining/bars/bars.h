// The bars that the embedded backbone must reach before a table may use it, and the arithmetic that
// says whether it does. Measuring is in bars_bench.h, printing in bars_report.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/stats.h"

namespace excise {

enum class Relation { kAtLeast, kAtMost, kWithin };  // kWithin: |value| <= required
enum class BarUnit { kFraction, kKappa, kCount, kDifference };

// What is asked for.
struct BarSpec {
  int number;         // 1 to 6; several rows may belong to one bar
  std::string group;  // what --only selects: judge, vae, clip, pictures, aliases, retrained
  std::string id;     // "judge.scenes"
  std::string what;   // one line for people
  Relation relation;
  double required;
  BarUnit unit = BarUnit::kFraction;
};
const std::vector<BarSpec>& BarSpecs();
std::vector<std::string> BarGroups();

struct Tally {
  int64_t right = 0, n = 0;
  void Add(bool good) {
    right += good ? 1 : 0;
    ++n;
  }
  // 0 when n is 0.
  double rate() const { return n == 0 ? 0 : static_cast<double>(right) / static_cast<double>(n); }
};
// {"value", "right", "n", "ci95"}; value null when n is 0.
Json TallyToJson(const Tally& tally);

// What was found.
struct Measurement {
  double value = 0;
  Interval ci;
  int64_t n = 0;
  std::string note;  // which class was the worst, what was left out
};
Measurement MeasureRate(const Tally& tally, std::string note = "");
// The lowest rate among `tallies` that have any sample; its name is the note. The interval is that
// of the one tally, as if it had been chosen beforehand. Throws Error when there is none.
Measurement MeasureWorst(const std::map<std::string, Tally>& tallies);
// How many of `tallies` reach `rate`; the interval counts those whose Wilson bounds reach it.
Measurement MeasureReaching(const std::map<std::string, Tally>& tallies, double rate);
// Agreement of two judges over one set of categories beyond chance (Cohen, Educational and
// Psychological Measurement 20:37, 1960): kappa = (p_o - p_e) / (1 - p_e). The interval is Wilson's
// of p_o, with p_e as found. confusion[i][j]: first judge said i, second j. Throws Error when it is
// not square or empty; all in one category: kappa 1.
Measurement MeasureKappa(const std::vector<std::vector<int64_t>>& confusion);
// First minus second on the same samples.
Measurement MeasurePaired(const PairedCounts& counts);

// By how much the value misses what is required, in its own unit; 0 when it is met.
double ShortBy(const BarSpec& spec, double value);
// Whether even the unfavourable end of the interval meets it.
bool IntervalMeets(const BarSpec& spec, const Interval& ci);

// Measurements as they come in.
class BarReport {
 public:
  // Throws Error for an unknown id or one that was set before.
  void Set(std::string_view id, const Measurement& measurement);
  // Why a bar could not be measured ("unet/ is not there").
  void Explain(std::string_view id, const std::string& reason);
  // {"bars": [one object for every spec of `groups`, in order], "tables": {...}}.
  Json ToJson(const std::vector<std::string>& groups) const;
  Json tables = Json::object();  // per class, concept, kind of garbage

 private:
  std::map<std::string, Measurement, std::less<>> found_;
  std::map<std::string, std::string, std::less<>> reasons_;
};

}  // namespace excise
