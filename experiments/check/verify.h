// Replays a results file: the same experiment, computed from nothing, compared bit for bit.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "experiments/lab/lab.h"

namespace excise {

struct VerifyRequest {
  std::filesystem::path file;         // FILE.json; its rows lie beside it
  int64_t sample = 0;                 // records to draw; 0 = all
  uint64_t seed = 1;                  // of that draw: whoever checks chooses it
  std::vector<std::string> records;   // these instead, by name: "uce / poodle / pez / asr"
  std::vector<std::string> settings;  // where the user's own files are, as after --set
  std::filesystem::path scratch;      // an empty store for the replay is made below, and removed
  int workers = 1;
  std::string device = "cpu";  // as after --device; the precision is the file's
  // Where the models are, once the backbone's name is known.
  std::function<Folders(const std::string& backbone)> folders;
};

struct Verification {
  bool verified = false;
  std::string report;  // for people, several lines
};

// Reads the file, loads and hashes every input anew, compares digests and versions, and only if
// these are the same computes what was asked for and compares records and rows. Nothing stored is
// trusted. Other numerics must be possible (experiments/results/numerics_claim.h); then values and
// outcomes may differ as far as rounding explains (experiments/results/rounding.h), and intervals,
// worst cases and comparisons must follow from the file's own samples
// (experiments/check/recheck.h). Throws Error or UsageError where the file cannot be replayed at
// all. Call before the first tensor operation: the file's instruction sets are pinned.
Verification VerifyResults(const VerifyRequest& request);

// Names of the records to replay, in the file's order; all where neither a sample nor names are
// asked for. Throws UsageError for a name that the file does not have.
std::vector<std::string> ChooseRecords(const Json& results, const VerifyRequest& request);

}  // namespace excise
