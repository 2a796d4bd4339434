// The models that a run works with: the backbone, and the CLIPs that score and that attacks read.
#pragma once

#include <filesystem>

#include "experiments/lab/lab.h"

namespace excise {

// Opens the experiment's backbone in `models` and the CLIPs in its folder, of which a snapshot of
// others brings none. Methods, attacks and metrics are chosen by then. Throws Error where the
// backbone is not there; UsageError for a sampler that its schedule does not allow, and for a
// metric or an attack that reads a CLIP which is not there.
void LoadModels(Lab* lab, const std::filesystem::path& models);

}  // namespace excise
