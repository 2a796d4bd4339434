// Results read back, for all who work with results that were written: what a run writes is read as
// it was, what no run writes is refused.
#pragma once

#include <filesystem>
#include <string>

#include "experiments/results/record.h"

namespace excise {

// The inverse of ResultsToJson; rows are in a file of their own. Throws Error, with `origin` and
// the field's JSON pointer, where one is missing, unknown or of another type than a run writes,
// where the schema is another version's, and where a record's metric is no plug-in of this program:
// only the plug-in knows how the metric is printed.
Results ResultsFromJson(const Json& json, const std::string& origin = "results");

// The inverse of RowToJson, as strict.
Row RowFromJson(const Json& json);

// FILE.json as ReadResults checks it, with the rows of FILE.rows.jsonl where it lies beside. Throws
// Error naming the file.
Results LoadResults(const std::filesystem::path& file);

}  // namespace excise
