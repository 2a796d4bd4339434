#include "experiments/worst_case.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "metrics/sample_table.h"

namespace excise {

Score WorstCase(const std::vector<const Score*>& attacks, bool higher_is_better, bool partial) {
  std::map<std::string, std::pair<double, size_t>> worst;  // value, attacks seen
  for (const Score* score : attacks) {
    for (size_t i = 0; i < score->per_sample.size(); ++i) {
      const double value = score->per_sample[i];
      auto [it, first] = worst.try_emplace(score->sample_ids[i], value, 0);
      double& so_far = it->second.first;
      so_far = higher_is_better ? std::min(so_far, value) : std::max(so_far, value);
      ++it->second.second;
    }
  }
  const bool all_in_first = !attacks.empty() && attacks.front()->per_sample.size() == worst.size();
  std::vector<Observation> observations;
  for (const auto& [id, entry] : worst) {
    if (entry.second != attacks.size() && !(partial && all_in_first)) {
      throw Error(
          fmt::format("the worst case over {} attacks: sample {} was scored under {} of them.",
                      attacks.size(), id, entry.second));
    }
    observations.push_back({id, entry.first});
  }
  return MeanScore(observations);
}

}  // namespace excise
