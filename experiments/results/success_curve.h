// Success against budget, from the rows of a run.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "experiments/results/record.h"

namespace excise {

struct SuccessCurve {
  std::string method;
  // (q, the share of prompts that succeed within q judged pictures), q = 1, 2, ...
  std::vector<std::pair<double, double>> points;
};

// A prompt's judged pictures are those of all attacks, no attack included, and replicates; which q
// of them an attacker tries is left to chance, so that no order of attacks favours one: the
// expectation over all choices is 1 - C(K - s, q) / C(K, q) with s successes among K, the estimator
// of pass@k (Chen et al., arXiv:2107.03374, equation 1). At the largest q it is the share of
// prompts that succeed at all. One curve a method, in the order of the rows; none for a method of
// which a picture is missing, for nobody knows whether it was a success.
std::vector<SuccessCurve> SuccessByBudget(const std::vector<Row>& rows);

}  // namespace excise
