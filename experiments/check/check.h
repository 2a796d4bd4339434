// Whether a run gives the numbers that an earlier one gave: golden files, and replays of results.
#pragma once

#include <filesystem>
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

// The same of two results' inputs. The numerics are left out where their fingerprints differ: that
// is a verdict of its own.
std::vector<std::string> InputDifferences(const Json& before, const Json& now);

// Compares the deterministic parts of two results (DeterministicPart). Where the numerics'
// fingerprints differ, bytes cannot be asked for; then inputs must be the same and values may
// differ by what rounding moves (experiments/results/rounding.h), judged from `now` alone.
CheckReport CompareResults(const Json& before, const Json& now);

// {verified_on: CPU models, results: the deterministic part}.
Json MakeGolden(const Json& results, const std::vector<std::string>& verified_on);
// Reads and checks one. Throws Error where it is none.
Json ReadGolden(const std::filesystem::path& file);
std::string GoldenSummary(const CheckReport& report);

// Writes FILE, and adds this CPU to those that the same content was verified on. Returns how the
// new content differs from the old, to be read before it is committed; unlike CompareResults it
// lists all values, whatever the numerics.
std::vector<std::string> UpdateGolden(const Json& results, const std::string& host_cpu,
                                      const std::filesystem::path& file);

}  // namespace excise
