// The file that keeps every trial of the tuning, and the same for readers.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/check/tune.h"

namespace excise {

struct TuningLog {
  Json setup;  // what trials must share to be compared; see SetupOf
  std::vector<Tuning> tunings;
};

// The rule, the experiment without its choice of plug-ins, the seeds and how many trials.
Json SetupOf(const TuneRequest& request);

Json TuningLogToJson(const TuningLog& log);
// Throws Error, with `origin`, where it is no such log.
TuningLog TuningLogFromJson(const Json& json, const std::string& origin);

// The tunings of `file` that a run of `setup` goes on with; none where there is no such file.
// Throws Error where the file is of another setup, or of more trials a plug-in: it is never
// replaced.
std::vector<Tuning> TuningsToGoOnWith(const std::filesystem::path& file, const Json& setup);

// Markdown: the rule, and a table a plug-in. `figure`: a picture's path beside it, or "".
std::string RenderTunings(const TuningLog& log, const std::string& figure);

}  // namespace excise
