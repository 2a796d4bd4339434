#include "experiments/run/export_prompts.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include "core/csv.h"
#include "core/error.h"
#include "core/escape.h"
#include "core/files.h"
#include "core/json.h"
#include "core/plural.h"
#include "core/progress.h"
#include "core/workers.h"
#include "experiments/run/pipeline.h"
#include "models/tensors/noise.h"
#include "models/tensors/numerics.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

class Exporter {
 public:
  Exporter(const Lab& lab, Store& store) : lab_(lab), pipeline_(lab, store) {}

  void Craft(const Grid& grid, int workers) {
    const auto& craftings = grid.craftings();
    Progress progress("attack", static_cast<int64_t>(craftings.size()), "prompts");
    RunUnits(static_cast<int64_t>(craftings.size()), workers, [&](int64_t i) {
      UseOneThreadPerWorker();
      const Crafting& one = craftings[static_cast<size_t>(i)];
      if (lab_.ForEachMethod(one.attack)) return;
      pipeline_.Craft(one.attack, one.method, one.subject, grid.PromptOf(one));
      progress.Advance(1, lab_.attacks[one.attack].name);
    });
  }

  void Add(size_t subject, const std::string& group, size_t attack, const Prompt& seed) {
    const bool attacked = lab_.attacks[attack].name != kUnmodified;
    if (attacked && lab_.concepts[subject].sensitivity != "benign_proxy") {
      ++withheld_;
      return;
    }
    const Prompt prompt =
        attacked ? pipeline_.Craft(attack, lab_.unmodified, subject, seed).back().prompt : seed;
    RefuseForms(prompt, lab_.attacks[attack].name);
    const auto noise_seed = static_cast<uint64_t>(lab_.experiment.seeds.noise);
    for (int64_t replicate = 0; replicate < lab_.experiment.sampler.images_per_prompt;
         ++replicate) {
      const std::string name = fmt::format("{}#{}", seed.root_id, replicate);
      prompts_.push_back({{"prompt_id", prompt.id},
                          {"concept", lab_.concepts[subject].name},
                          {"group", group},
                          {"attack", lab_.attacks[attack].name},
                          {"replicate", replicate},
                          {"prompt", prompt.text},
                          {"noise_seed", noise_seed},
                          {"latents", name}});
      if (latents_.Contains(name)) continue;
      const int64_t side = lab_.backbone.unet_config.sample_size;
      latents_.Set(name, LatentNoise(noise_seed, seed.root_id, static_cast<uint64_t>(replicate),
                                     {lab_.backbone.unet_config.in_channels, side, side}));
    }
  }

  void Write(const std::filesystem::path& file) const {
    const std::string bytes = PromptFileBytes(
        {"prompt_id", "concept", "group", "attack", "replicate", "prompt", "noise_seed", "latents"},
        prompts_, file);
    std::filesystem::path latents = file;
    latents.replace_extension(".latents.safetensors");
    SaveSafetensors(latents, latents_);
    WriteFileAtomically(file, bytes);
    LogInfo(fmt::format("prompts: {}; initial latents: {}", file.string(), latents.string()));
    if (withheld_ > 0) {
      LogInfo(fmt::format("not written: {} of sensitive concepts",
                          Plural(withheld_, "attacked prompt")));
    }
  }

 private:
  const Lab& lab_;
  Pipeline pipeline_;
  std::vector<Json> prompts_;
  StateDict latents_;
  int64_t withheld_ = 0;
};

void RefuseFormulas(const std::vector<std::string>& fields, const Json& row,
                    const std::filesystem::path& file) {
  for (const std::string& field : fields) {
    if (!IsFormula(field)) continue;
    throw UsageError(fmt::format(
        "--export_prompts={}: '{}' ({}, attack {}) begins as a formula does, and a spreadsheet "
        "would run it; with a mark before it, it would be another prompt. Write {} instead, an "
        "object a line: there every prompt stands as it is.",
        file.string(), Shortened(field, 80), row.at("prompt_id").get<std::string>(),
        row.at("attack").get<std::string>(),
        std::filesystem::path(file).replace_extension(".jsonl").filename().string()));
  }
}

}  // namespace

bool IsTextAlone(const Prompt& prompt) {
  return prompt.form() == PromptForm::kText && prompt.latents.values.empty() &&
         prompt.drawing.plain();
}

void RefuseForms(const Prompt& prompt, const std::string& attack) {
  if (IsTextAlone(prompt)) return;
  std::string what = "prompts of the form " + FormName(prompt.form());
  if (prompt.form() == PromptForm::kText) {
    what =
        prompt.drawing.plain() ? "initial latents" : "prompts that are drawn in a way of their own";
  }
  throw UsageError(
      fmt::format("--export_prompts: attack '{}' makes {}, which a file of texts cannot hand on. "
                  "Leave the attack out with --attacks.",
                  attack, what));
}

std::string PromptFileBytes(const std::vector<std::string>& columns, const std::vector<Json>& rows,
                            const std::filesystem::path& file) {
  if (file.extension() != ".csv" && file.extension() != ".jsonl") {
    throw UsageError(fmt::format(
        "--export_prompts={}: the name of a .csv or .jsonl file is expected.", file.string()));
  }
  const bool csv = file.extension() == ".csv";
  std::string bytes = csv ? CsvLine(columns) : "";
  for (const Json& row : rows) {
    if (!csv) {
      bytes += row.dump(-1, ' ', /*ensure_ascii=*/true) + "\n";
      continue;
    }
    std::vector<std::string> fields;
    for (const std::string& column : columns) {
      const Json& value = row.at(column);
      fields.push_back(value.is_string() ? value.get<std::string>()
                       : value.is_null() ? ""
                                         : value.dump());
    }
    RefuseFormulas(fields, row, file);
    bytes += CsvLine(fields);
  }
  return bytes;
}

void ExportPrompts(const Lab& lab, const Grid& grid, Store& store, int workers,
                   const std::filesystem::path& file) {
  const SamplerSettings& sampler = lab.experiment.sampler;
  if (sampler.noise != "philox" || sampler.own_guidance) {
    throw UsageError(
        "--export_prompts writes Excise's own noise and one guidance scale, and this experiment "
        "draws by the seeds or guidance scales in its prompts' rows. Give other software the list "
        "itself, or set sampler.noise=philox and sampler.own_guidance=false.");
  }
  PromptFileBytes({}, {}, file);  // refuses another name before any work
  Exporter exporter(lab, store);
  exporter.Craft(grid, workers);
  for (size_t subject = 0; subject < lab.concepts.size(); ++subject) {
    for (const char* group : kGroups) {
      const auto prompts = lab.prompts[subject].find(group);
      if (prompts == lab.prompts[subject].end()) continue;
      const bool target = prompts->first == "target";
      for (size_t attack = 0; attack < (target ? lab.attacks.size() : 1); ++attack) {
        // What is made against one method's model says nothing to another model.
        if (lab.ForEachMethod(attack)) continue;
        for (const Prompt& seed : prompts->second) {
          if (lab.ReasonNotAttacked(attack, subject, seed).empty()) {
            exporter.Add(subject, group, attack, seed);
          }
        }
      }
    }
  }
  exporter.Write(file);
}

}  // namespace excise
