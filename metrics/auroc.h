// How well a score tells pictures that show a concept from pictures that do not: the area under
// the receiver operating characteristic, for filters and detectors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/stats.h"
#include "metrics/metric.h"

namespace excise {

// A picture as a detector saw it.
struct Scored {
  std::string id;  // SampleId; pictures that differ in what follows '#' alone are one cluster
  double score = 0;
  bool positive = false;  // it shows the concept
};

struct Auroc {
  // P(score of a positive > score of a negative) + P(equal) / 2; 0.5 is chance. NaN without
  // positives or without negatives: the interval is [0, 1] then.
  double value = 0;
  // Of DeLong, DeLong and Clarke-Pearson (Biometrics 44:837, 1988) with the clusters of Obuchowski
  // (Biometrics 53:567, 1997). NaN below two clusters of either kind. 0 where the classes are
  // separated, which is no certainty: take the interval.
  double standard_error = 0;
  // 95 %: method 5 of Newcombe (Statistics in Medicine 25:559, 2006), which does not shrink to
  // nothing at 0 and 1. Counts are of clusters, so it is too wide, never too narrow, where
  // pictures of one prompt differ.
  Interval ci;
  int64_t positives = 0, negatives = 0;
  // One a picture, in the order given. Their mean is `value`, and (without clusters) the variance
  // of their mean is DeLong's, up to n / (n - 1): what paired tests between two detectors need.
  std::vector<double> pseudo_values;
};

// Throws Error on a score that is NaN.
Auroc ComputeAuroc(const std::vector<Scored>& pictures);

// One point of the curve: acting on every score above `threshold`.
struct RocPoint {
  double threshold = 0, false_positive_rate = 0, true_positive_rate = 0;
};
// From (0, 0) at threshold +infinity to (1, 1) at -infinity, a point for each distinct score. A
// rate of a class without pictures is 0.
std::vector<RocPoint> RocCurve(const std::vector<Scored>& pictures);

// What a metric reports: the area with its interval, per-picture pseudo-values, and the parts
// "positives", "negatives", and "tpr_at_fpr_01", "_05", "_10", "_20": the largest share of
// positives found at a share of at most 1, 5, 10, 20 % false alarms. n = 0 when a class is missing
// (the parts say which).
Score AurocScore(const std::vector<Scored>& pictures);

}  // namespace excise
