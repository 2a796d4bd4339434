// Golden files: what a run of a table's golden profile gives, bit for bit, a file a method, so that
// a new method adds one and changes none. results/checks/golden/<table>.json has what belongs to no
// method, the folder <table>/ beside it the methods' own files.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "experiments/check/check.h"

namespace excise {

struct Golden {
  Json table;  // {schema, experiment, inputs}
  // By name: {verified_on: CPU models, records, comparisons}. The comparisons are those that no
  // other method has a part in: of attacks on it, and with the unmodified model, without the
  // adjustment over all methods. All others follow from the samples in the records.
  std::map<std::string, Json> methods;
};

// The parts of a run; nothing is verified yet.
Golden GoldenOf(const Json& results);

// `file`: <table>.json. Throws Error naming the file that is missing or none of these.
Golden ReadGolden(const std::filesystem::path& file);

struct GoldenCheck {
  CheckReport report;
  std::vector<std::string> added;  // methods of the run that have no golden file: nothing is held
};

// Each method of the run against its file. A file whose method is not in the run is a change, but
// for a run that was `narrowed` to some methods.
GoldenCheck CompareWithGolden(const Json& results, const Golden& golden, bool narrowed);
std::string GoldenSummary(const GoldenCheck& check);

// Writes the files of a whole run, adds this CPU to those that the same content was verified on,
// and removes the files of methods that are gone. Returns how the new content differs from the old,
// to be read before it is committed; unlike CompareWithGolden it lists all values, whatever the
// numerics.
std::vector<std::string> UpdateGolden(const Json& results, const std::string& host_cpu,
                                      const std::filesystem::path& file);

}  // namespace excise
