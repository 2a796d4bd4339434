#include "experiments/check/trial_scores.h"

#include <cmath>
#include <map>
#include <string>

#include "core/error.h"

namespace excise {
namespace {

std::map<std::string, double> BySample(const std::vector<Score>& scores) {
  std::map<std::string, double> values;
  for (const Score& score : scores) {
    for (size_t i = 0; i < score.per_sample.size(); ++i) {
      values[score.sample_ids[i]] = score.per_sample[i];
    }
  }
  return values;
}

}  // namespace

void Count::Add(const Count& other) {
  hits += other.hits;
  n += other.n;
}

Json CountToJson(const Count& count) { return {{"hits", count.hits}, {"n", count.n}}; }

Count CountOf(const std::vector<Score>& rates) {
  Count count;
  for (const Score& rate : rates) {
    count.Add({std::llround(rate.value * static_cast<double>(rate.n)), rate.n});
  }
  return count;
}

Count CountOfShare(const std::vector<Score>& rates, const std::string& part) {
  Count count;
  for (const Score& rate : rates) {
    const auto share = rate.parts.find(part);
    if (share == rate.parts.end()) throw Error("tune: a rate does not say its part '" + part + "'");
    count.Add({std::llround(share->second * static_cast<double>(rate.n)), rate.n});
  }
  return count;
}

Count CountOfPart(const std::vector<Score>& rates, const std::string& part) {
  Count count;
  for (const Score& rate : rates) {
    const auto value = rate.parts.find(part), n = rate.parts.find(part + "_n");
    if (value == rate.parts.end() || n == rate.parts.end()) continue;
    count.Add({std::llround(value->second * n->second), std::llround(n->second)});
  }
  return count;
}

double HarmonicMean(double a, double b) { return a <= 0 || b <= 0 ? 0 : 2 * a * b / (a + b); }

double RecoveryCount::Value() const {
  return n == 0 ? 0 : static_cast<double>(shown - shown_by_floor) / static_cast<double>(n);
}

void RecoveryCount::Add(const RecoveryCount& other) {
  shown += other.shown;
  shown_by_floor += other.shown_by_floor;
  n += other.n;
}

Json RecoveryToJson(const RecoveryCount& count) {
  return {{"shown", count.shown}, {"shown_by_floor", count.shown_by_floor}, {"n", count.n}};
}

RecoveryCount CountRecovery(const std::vector<Score>& plain, const std::vector<Score>& attacked,
                            const std::vector<Score>& floor_plain,
                            const std::vector<Score>& floor_attacked) {
  const auto method = BySample(plain), floor = BySample(floor_plain);
  const auto found = BySample(floor_attacked);
  RecoveryCount count;
  for (const auto& [id, value] : BySample(attacked)) {
    const auto m = method.find(id), f = floor.find(id), under = found.find(id);
    if (m == method.end() || f == floor.end() || under == found.end()) continue;
    if (m->second != 0 || f->second != 0) continue;
    ++count.n;
    count.shown += value != 0;
    count.shown_by_floor += under->second != 0;
  }
  return count;
}

}  // namespace excise
