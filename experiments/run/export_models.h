// The models that a table's methods make, for other software and for the method `snapshot`.
#pragma once

#include <filesystem>

#include "core/store.h"
#include "experiments/lab/lab.h"
#include "experiments/run/grid.h"

namespace excise {

// Writes a snapshot folder (models/snapshots/snapshot_writer.h) for every method that edits
// weights: FOLDER/ <method>/<concept>, FOLDER/<method>/<concept>+<concept> where one edit removes
// several, or FOLDER/<method> where one removal stands for all concepts. Removals that are not
// stored are computed first, by `workers` threads. Methods that change no weights are left out and
// named; what a method does through hooks is code and in no folder, which is said. Throws
// UsageError when a folder to be written exists and is not empty, or when no method edits weights.
void ExportModels(const Lab& lab, const Grid& grid, Store& store, int workers,
                  const std::filesystem::path& folder);

}  // namespace excise
