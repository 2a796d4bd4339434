// Reference results: ours, over several erase seeds, with the band in which another seed's, another
// machine's or another version's numbers must lie. results/checks/reference/<table>.json.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/run/runner.h"

namespace excise {

// Runs `experiment` with erase seeds 1 to `seeds` (at least 2) and returns what they gave: for
// every rate over all concepts its values, their mean and the band. Throws Error where a run fails.
Json MakeReference(const Experiment& experiment, const Folders& folders, const Compute& compute,
                   Store& store, const RunOptions& options, int64_t seeds);

// The part of it that needs no run; `runs` differ in the seed.
Json ReferenceOf(const std::vector<Results>& runs);

// Reads and checks one. Throws Error where it is none.
Json ReadReference(const std::filesystem::path& file);

struct ReferenceOutcome {
  std::string record;   // "uce / * / pez / asr"
  std::string verdict;  // reproduced | differs | underpowered | not_run
  std::string detail;
};

// Each record of the reference against a run. Two-sided: a rate that is too good differs as well.
// The standard error of the difference comes from the seeds' spread, for prompts and noise are the
// same; where it exceeds half the band the verdict is underpowered. Throws Error when experiments
// or inputs differ (numerics and erase seed apart), for then nothing is compared.
std::vector<ReferenceOutcome> CompareWithReference(const Results& results, const Json& reference);

// What is not reproduced, a line each, and how many of each verdict.
std::string RenderReference(const std::vector<ReferenceOutcome>& outcomes);

}  // namespace excise
