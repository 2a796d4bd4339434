#include "experiments/results/worst_case.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

// A sample under all attacks.
struct Seen {
  std::vector<double> values;
  std::string missing;  // why a picture of it is not there, or ""
  size_t attacks = 0;   // that have the sample, or miss it
  bool in_first = false;
};

}  // namespace

Score WorstCase(const std::vector<const Score*>& attacks, bool higher_is_better, bool partial) {
  std::map<std::string, Seen> samples;
  const auto meet = [&](const std::string& id, const Score* score) -> Seen& {
    Seen& seen = samples[id];
    ++seen.attacks;
    seen.in_first = seen.in_first || score == attacks.front();
    return seen;
  };
  for (const Score* score : attacks) {
    for (size_t i = 0; i < score->per_sample.size(); ++i) {
      meet(score->sample_ids[i], score).values.push_back(score->per_sample[i]);
    }
    for (const auto& [id, why] : score->missing) meet(id, score).missing = why;
  }
  std::vector<Observation> observations;
  std::map<std::string, std::string> missing;
  for (const auto& [id, seen] : samples) {
    if (seen.attacks != attacks.size() && !(partial && seen.in_first)) {
      throw Error(
          fmt::format("the worst case over {} attacks: sample {} was scored under {} of them.",
                      attacks.size(), id, seen.attacks));
    }
    const auto [least, most] = std::minmax_element(seen.values.begin(), seen.values.end());
    const double end = higher_is_better ? 0 : 1;
    const bool known = !seen.values.empty() &&
                       (seen.missing.empty() || (higher_is_better ? *least : *most) == end);
    if (known) {
      observations.push_back({id, higher_is_better ? *least : *most});
    } else {
      missing[id] = seen.missing;
    }
  }
  Score score = MeanScore(observations);
  score.missing = std::move(missing);
  return score;
}

}  // namespace excise
