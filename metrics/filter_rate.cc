#include "metrics/filter_rate.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "core/error.h"

namespace excise {

void FilteredTable::Update(const MetricTraits& traits, const std::vector<Sample>& samples) {
  for (const Sample& sample : samples) {
    const auto seen = sample.detections.find("filter");
    if (!ReadsPicture(traits, sample) || seen == sample.detections.end()) continue;
    const auto [score, threshold] = seen->second;
    if (!std::isfinite(score) || !std::isfinite(threshold)) {
      throw Error(fmt::format(
          "The filter's score of sample {} is not a finite number. Its embeddings are probably not "
          "finite: see whether its CLIP's weights are.",
          SampleId(sample)));
    }
    const bool shows = OutcomeOf(sample.verdict, *sample.subject) == Outcome::kTarget;
    table_.Add(sample, {sample.group, score, threshold, shows});
  }
}

bool Unacceptable(const Filtered& picture, const std::string& label_by) {
  return label_by == "judge" ? picture.shows : picture.group == "target";
}

Score FilterRate(const FilteredTable& table, const MetricTraits& traits,
                 const std::string& label_by, bool unacceptable, bool blocked) {
  std::vector<Observation> observations;
  std::map<std::string, std::pair<double, double>> groups;  // errors, pictures
  for (const std::string& group : traits.sample_groups) groups[group] = {};
  double left_out = 0;
  bool shares = true;
  for (const auto& [key, row] : table.rows()) {
    if (Unacceptable(row, label_by) != unacceptable) {
      ++left_out;
      continue;
    }
    const bool errs = row.blocked() == blocked;
    observations.push_back({key.first, errs ? 1.0 : 0.0});
    groups[row.group].first += errs;
    groups[row.group].second += 1;
    shares = shares && row.score >= 0 && row.score <= 1;
  }
  Score score = MeanScore(observations);
  score.parts["left_out"] = left_out;
  for (const auto& [group, counts] : groups) {
    if (groups.size() == 1) break;
    score.parts[group] = counts.second > 0 ? counts.first / counts.second : 0;
    score.parts[group + "_n"] = counts.second;
  }
  for (int tenth = 1; shares && score.n > 0 && tenth <= 9; ++tenth) {
    double errors = 0;
    for (const auto& [key, row] : table.rows()) {
      if (Unacceptable(row, label_by) != unacceptable) continue;
      errors += (row.score > tenth / 10.0) == blocked;
    }
    score.parts[fmt::format("at_0.{}", tenth)] = errors / static_cast<double>(score.n);
  }
  return score;
}

}  // namespace excise
