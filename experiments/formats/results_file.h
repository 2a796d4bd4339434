// Results files read back: strict, because they come from anyone.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "experiments/formats/experiment.h"

namespace excise {

// The attack of a record over all of them: the per-prompt worst case, no attack included.
inline constexpr const char* kUnion = "union";

// The metric of records that are made of others: what attacks bring back beyond a floor; see
// experiments/results/recovery.h.
inline constexpr const char* kRecovery = "recovery";

// FILE.json. Throws Error when it is missing, truncated or malformed, does not fit
// results/schema.json, has no record or one twice, or a backbone's name that is a path: with the
// file, the JSON pointer and what is wrong.
Json ReadResults(const std::filesystem::path& file);

// FILE.rows.jsonl beside it, one object a line. Throws Error naming the file and the line.
std::vector<Json> ReadResultRows(const std::filesystem::path& file);

// "uce / poodle / pez / asr" of a record of a results file.
std::string RecordNameOf(const Json& record);

// "0", or "0@2" where the row names its erase seed: which picture of the prompt a row is.
std::string ReplicateOf(const Json& row);

// "uce / poodle / pez / target / set@1234/7#0": a row's place, which no two rows share.
std::string RowNameOf(const Json& row);

// The experiment that the results were made by, from what they say alone. `settings` are as after
// --set, for results name the user's files without their folders. Plug-ins' versions are not
// looked at. Throws Error naming `origin`.
Experiment ExperimentOf(const Json& results, const std::string& origin,
                        const std::vector<std::string>& settings = {});

}  // namespace excise
