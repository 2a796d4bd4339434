// Distances between two sets of pictures: a method's, and the unmodified model's of the same
// prompts and noise.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "metrics/kernel_distance.h"
#include "metrics/sample_table.h"

namespace excise {

// Features of one picture and of the unmodified model's; both empty where a filter blocked it.
struct PicturePair {
  std::vector<double> method, base;
};
using PicturePairs = std::vector<const PicturePair*>;

// All of one side, a row a pair.
Features MethodSide(const PicturePairs& pairs);
Features BaseSide(const PicturePairs& pairs);

// The mean over edits of `distance` between their two sets, with 1.96 standard errors about it.
// Blocked pictures are left out and counted in part "blocked"; an edit with fewer than `least`
// others leaves no value.
Score CompareSets(const SampleTable<PicturePair>& table, size_t least,
                  const std::function<Mmd(const PicturePairs&)>& distance);

}  // namespace excise
