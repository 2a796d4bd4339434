#include "metrics/picture_sets.h"

#include <map>
#include <string>

namespace excise {
namespace {

Features SideOf(const PicturePairs& pairs, std::vector<double> PicturePair::*side) {
  Features features;
  for (const PicturePair* pair : pairs) {
    const std::vector<double>& row = pair->*side;
    features.width = static_cast<int64_t>(row.size());
    features.values.insert(features.values.end(), row.begin(), row.end());
  }
  return features;
}

}  // namespace

Features MethodSide(const PicturePairs& pairs) { return SideOf(pairs, &PicturePair::method); }
Features BaseSide(const PicturePairs& pairs) { return SideOf(pairs, &PicturePair::base); }

Score CompareSets(const SampleTable<PicturePair>& table, size_t least,
                  const std::function<Mmd(const PicturePairs&)>& distance) {
  // Each edit against the same pictures of the unmodified model, which are no two samples of it.
  std::map<std::string, PicturePairs> edits;
  Score score;
  double& blocked = score.parts["blocked"];
  for (const auto& [key, pair] : table.rows()) {
    PicturePairs& pairs = edits[EditOfId(key.first)];
    if (pair.method.empty()) ++blocked;
    if (!pair.method.empty()) pairs.push_back(&pair);
  }
  double value = 0, error = 0;
  int64_t n = 0;
  for (const auto& [edit, pairs] : edits) {
    if (pairs.size() < least) return score;
    const Mmd found = distance(pairs);
    value += found.value / static_cast<double>(edits.size());
    // As if they erred together: they are of the same prompts and noise.
    error += found.stderr_ / static_cast<double>(edits.size());
    n += static_cast<int64_t>(pairs.size());
  }
  if (n == 0) return score;
  score.n = n;
  score.value = value;
  score.stderr_ = error;
  score.low = value - 1.959964 * error;
  score.high = value + 1.959964 * error;
  return score;
}

}  // namespace excise
