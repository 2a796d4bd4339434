// What metrics keep of samples: one row a sample under a name that does not depend on batches,
// order or shards, so that merging is exact; and the mean of rows with its interval.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metrics/metric.h"

namespace excise {

// "<concept>/<group>/<root prompt id>#<replicate>", and "@<erase seed>" behind it where the row has
// several edits: equal for the same prompt and noise under every method and attack, so samples of
// two cells can be paired.
std::string SampleId(const Sample& sample);
// "@<erase seed>", or "" where the row has one edit.
std::string EditMark(const Sample& sample);
// What an id says: the prompt (concept and group included), the edit ("@2", or "" where there is
// one), and the sample without its edit, which is that of a method that has one.
std::string PromptOfId(const std::string& sample_id);
std::string EditOfId(const std::string& sample_id);
std::string WithoutEdit(const std::string& sample_id);

[[noreturn]] void ThrowDuplicateSample(std::string_view id, std::string_view prompt_id);

// Whether a metric with these traits reads the sample's group.
bool ReadsGroup(const MetricTraits& traits, const Sample& sample);
// Whether there is no picture though no filter blocked one: it could not be drawn or read. That is
// an error, never a success or a failure of a method, so no metric counts it.
bool IsMissing(const Sample& sample);
// ReadsGroup, and there is something to read: what metrics of pictures ask of every sample.
bool ReadsPicture(const MetricTraits& traits, const Sample& sample);

// Row: what a metric keeps of a sample.
template <class Row>
class SampleTable {
 public:
  // Keyed by (SampleId, prompt id): the candidates of one attacked prompt are samples of their own.
  using Map = std::map<std::pair<std::string, std::string>, Row>;

  void Add(const Sample& sample, Row row) {
    Insert({SampleId(sample), sample.prompt.id}, std::move(row));
  }
  void Merge(const SampleTable& other) {
    for (const auto& [key, row] : other.rows_) Insert(key, row);
  }
  const Map& rows() const { return rows_; }

 private:
  void Insert(std::pair<std::string, std::string> key, Row row) {
    const auto [it, inserted] = rows_.emplace(std::move(key), std::move(row));
    if (!inserted) ThrowDuplicateSample(it->first.first, it->first.second);
  }
  Map rows_;
};

struct Observation {
  std::string id;  // SampleId
  double value = 0;
};

// Mean with standard error and 95 % interval: Wilson when every value is 0 or 1 and no prompt
// occurs twice, else a percentile bootstrap over prompts (all samples of a prompt together: its
// replicates, and those of all edits), with a fixed seed. n = 0: all zero.
Score MeanScore(const std::vector<Observation>& observations);
// The bootstrap whatever the values are: for distances, of which all may be 0.
Score MeanDistance(const std::vector<Observation>& observations);

double Mean(const std::vector<double>& values);  // 0 when empty

}  // namespace excise
