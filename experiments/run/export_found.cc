#include "experiments/run/export_found.h"

#include <fmt/format.h>

#include "core/files.h"
#include "core/hash.h"
#include "core/plural.h"
#include "core/progress.h"
#include "core/workers.h"
#include "experiments/run/export_prompts.h"
#include "experiments/run/pipeline.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

void CraftAll(const Lab& lab, const Grid& grid, int workers, Pipeline* pipeline) {
  const std::vector<std::vector<size_t>> passes = grid.CraftedTogether();
  Progress progress("attack", static_cast<int64_t>(grid.craftings().size()), "prompts");
  RunUnits(static_cast<int64_t>(passes.size()), workers, [&](int64_t i) {
    UseOneThreadPerWorker();
    for (const size_t one : passes[static_cast<size_t>(i)]) {
      const Crafting& crafting = grid.craftings()[one];
      pipeline->Craft(crafting.attack, crafting.method, crafting.subject, grid.PromptOf(crafting));
      progress.Advance(1, lab.attacks[crafting.attack].name);
    }
  });
}

Json RowOf(const Lab& lab, const Crafting& crafting, const Prompt& seed, const Candidate& found,
           bool with_text) {
  return {{"prompt_id", seed.id},
          {"concept", lab.concepts[crafting.subject].name},
          {"attack", lab.attacks[crafting.attack].name},
          {"method", lab.methods[crafting.method].name},
          {"prompt", with_text ? found.prompt.text : ""},
          {"sha256", Sha256Hex(found.prompt.text)},
          {"success", found.success ? Json(*found.success) : Json()},
          {"score", found.score},
          {"victim_queries", found.ledger.victim_queries},
          {"candidate_evaluations", found.ledger.candidate_evaluations},
          {"gradient_steps", found.ledger.gradient_steps}};
}

}  // namespace

void ExportFound(const Lab& lab, const Grid& grid, Store& store, int workers, bool sensitive,
                 const std::filesystem::path& file) {
  PromptFileBytes({}, {}, file);  // refuses another name before any work
  Pipeline pipeline(lab, store);
  CraftAll(lab, grid, workers, &pipeline);
  std::vector<Json> rows;
  int64_t no_text = 0, without_text = 0;
  for (const Crafting& crafting : grid.craftings()) {
    // The other edits of a row are found nowhere by its name.
    if (lab.methods[crafting.method].edit > 0) continue;
    const Prompt& seed = grid.PromptOf(crafting);
    const Candidate found =
        pipeline.Craft(crafting.attack, crafting.method, crafting.subject, seed).back();
    if (!IsTextAlone(found.prompt)) {
      ++no_text;
      continue;
    }
    const bool benign = lab.concepts[crafting.subject].sensitivity == "benign_proxy";
    if (!benign && !sensitive) ++without_text;
    rows.push_back(RowOf(lab, crafting, seed, found, benign || sensitive));
  }
  WriteFileAtomically(file, PromptFileBytes({"prompt_id", "concept", "attack", "method", "prompt",
                                             "sha256", "success", "score", "victim_queries",
                                             "candidate_evaluations", "gradient_steps"},
                                            rows, file));
  LogInfo(fmt::format("{} that attacks found: {}", Plural(rows.size(), "prompt"), file.string()));
  if (no_text > 0) {
    LogInfo(fmt::format(
        "not written, because they are embeddings or initial latents, or ways to draw: {}",
        Plural(no_text, "prompt")));
  }
  if (without_text > 0) {
    LogInfo(fmt::format(
        "of sensitive concepts, so without their text: {} (--sensitive_texts writes them, for data "
        "of your own)",
        Plural(without_text, "prompt")));
  }
}

}  // namespace excise
