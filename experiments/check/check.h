// Whether a run gives the numbers that an earlier one gave; for golden files and replays of
// results.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "experiments/formats/results_file.h"

namespace excise {

enum class Agreement {
  kSame,            // equal fingerprints, equal bytes
  kChanged,         // equal fingerprints, other bytes: a number or an input changed
  kOtherNumerics,   // other fingerprints; every value within its tolerance
  kOutOfTolerance,  // other fingerprints, and a value or an input is off
};

struct CheckReport {
  Agreement agreement = Agreement::kSame;
  std::vector<std::string> lines;  // what differs: record, old, new
  bool Passed() const {
    return agreement == Agreement::kSame || agreement == Agreement::kOtherNumerics;
  }
  // The first lines, escaped for a terminal and indented, one after another; "" where there are
  // none.
  std::string Lines() const;
};

// One line for each JSON pointer at which two values differ: what it was and what it is now.
std::vector<std::string> Differences(const std::string& name, const Json& before, const Json& now);

// The same of two results' inputs without their numerics: these are a verdict of their own.
std::vector<std::string> InputDifferences(const Json& before, const Json& now);

// Compares the deterministic parts of two results (DeterministicPart). Where the numerics'
// fingerprints differ, bytes cannot be asked for; then inputs must be the same and values may
// differ by what rounding moves (experiments/results/rounding.h), judged from `now` alone.
CheckReport CompareResults(const Json& before, const Json& now);
// The same where it is known whether bytes can be asked for.
CheckReport CompareResults(const Json& before, const Json& now, bool bytes);

// Every difference of two deterministic parts, whatever the numerics.
std::vector<std::string> AllDifferences(const Json& before, const Json& now);

}  // namespace excise
