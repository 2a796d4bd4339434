// What `verify` reads: FILE.json, and the experiment that it says it was made by. An accepted file
// has records with names of their own and a backbone whose name leads nowhere.
#include <set>

#include "core/json.h"
#include "experiments/formats/results_file.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace excise;
  using fuzz::Require;
  const fuzz::MemoryFile file(fuzz::Text(data, size));
  Json results;
  if (!fuzz::Accepts([&] { results = ReadResults(file.path()); })) return 0;
  std::set<std::string> names;
  for (const Json& record : results.at("records")) {
    Require(names.insert(RecordNameOf(record)).second, "no record twice");
  }
  Require(!names.empty(), "something to verify");
  Experiment experiment;
  if (!fuzz::Accepts([&] { experiment = ExperimentOf(results, "input"); })) return 0;
  Require(experiment.backbone.find('/') == std::string::npos && experiment.backbone[0] != '.',
          "a backbone's name is no path");
  Require(!experiment.concepts.empty(), "something was removed");
  return 0;
}
