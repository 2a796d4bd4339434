#include "experiments/run/export_models.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

#include "core/error.h"
#include "core/progress.h"
#include "core/workers.h"
#include "experiments/lab/removals.h"
#include "experiments/run/pipeline.h"
#include "models/snapshots/snapshot_writer.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

bool Shares(const StateDict& edited, const StateDict& base) {
  return std::all_of(edited.begin(), edited.end(), [&](const auto& entry) {
    return base.Contains(entry.first) &&
           base.Get(entry.first).data_ptr() == entry.second.data_ptr();
  });
}

bool EditsWeights(const Backbone& edited, const Backbone& base) {
  return !Shares(edited.text_encoder, base.text_encoder) || !Shares(edited.unet, base.unet) ||
         !Shares(edited.vae, base.vae);
}

fs::path FolderOf(const Lab& lab, const Removal& removal, const fs::path& folder) {
  const Entry<Method>& method = lab.methods[removal.method];
  fs::path own = folder / method.name;
  if (lab.EditsOf(removal.method) > 1) {
    own += fmt::format("@{}", lab.EraseSeedOf(removal.method));
  }
  if (!method.plugin->traits().reads_concepts) return own;
  return own / NamesOf(lab, RemovedTogether(lab, removal.method, removal.subject), "+");
}

// Removals that have a folder of their own, with it. Throws before anything is computed.
std::vector<std::pair<Removal, fs::path>> Planned(const Lab& lab, const Grid& grid,
                                                  const fs::path& folder) {
  std::vector<std::pair<Removal, fs::path>> planned;
  std::set<fs::path> seen;
  for (const Removal& removal : grid.removals()) {
    const fs::path own = FolderOf(lab, removal, folder);
    if (!seen.insert(own).second) continue;
    if (fs::exists(own) && (!fs::is_directory(own) || !fs::is_empty(own))) {
      throw UsageError(
          fmt::format("--export_models: {} exists and is not empty. Name another folder, or remove "
                      "it.",
                      own.string()));
    }
    planned.emplace_back(removal, own);
  }
  return planned;
}

}  // namespace

void ExportModels(const Lab& lab, const Grid& grid, Store& store, int workers,
                  const fs::path& folder) {
  const auto planned = Planned(lab, grid, folder);
  const auto n = static_cast<int64_t>(planned.size());
  Pipeline pipeline(lab, store);
  Progress progress("erase", n, "removals");
  RunUnits(n, workers, [&](int64_t i) {
    UseOneThreadPerWorker();
    const Removal& removal = planned[static_cast<size_t>(i)].first;
    pipeline.Erase(removal.method, removal.subject);
    progress.Advance(1, lab.methods[removal.method].name);
  });
  int64_t written = 0;
  for (const auto& [removal, own] : planned) {
    const auto edited = pipeline.Erase(removal.method, removal.subject);
    const ErasedModel& model = *edited;
    const std::string& name = lab.methods[removal.method].name;
    if (!EditsWeights(model.exact, lab.backbone)) {
      LogInfo(fmt::format("{} changes no weights and is not written", name));
      continue;
    }
    SaveSnapshot(model.exact, own);
    ++written;
    LogInfo(fmt::format("{}: {}{}", name, own.string(),
                        model.hooks == nullptr ? "" : " (without what it does through hooks)"));
  }
  if (written == 0) {
    throw UsageError(
        "--export_models: none of the chosen methods changes weights. Choose others with "
        "--methods; --list names all.");
  }
}

}  // namespace excise
