// Golden files: whether a run gives the numbers that are committed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace excise {

enum class GoldenVerdict {
  kSame,            // equal fingerprints, equal bytes
  kChanged,         // equal fingerprints, other bytes: a number or an input changed
  kOtherNumerics,   // other fingerprints; every value within its tolerance
  kOutOfTolerance,  // other fingerprints, and a value or an input is off
};

struct GoldenReport {
  GoldenVerdict verdict = GoldenVerdict::kSame;
  std::vector<std::string> lines;  // what differs: record, old, new
  std::string Summary() const;
};

// {verified_on: CPU models, results: the deterministic part}.
Json MakeGolden(const Json& results, const std::vector<std::string>& verified_on);

// Compares `results` (ResultsToJson) with a golden file's content. Where the numerics' fingerprints
// differ, bytes cannot be asked for; then inputs must be the same and values may differ by three
// standard errors, or by the counts' own steps where the error is 0.
GoldenReport CompareWithGolden(const Json& results, const Json& golden);

// Writes FILE, and adds this CPU to those that the same content was verified on.
void UpdateGolden(const Json& results, const std::string& host_cpu,
                  const std::filesystem::path& file);

}  // namespace excise
