#include "experiments/keys.h"

#include <algorithm>

#include "core/hash.h"
#include "core/store.h"

namespace excise {
namespace {

Json PluginKey(const char* stage, const std::string& name, int version, const Json& params,
               const Lab& lab) {
  return {{"stage", stage},
          {"plugin", name},
          {"version", version},
          {"params", params},
          {"numerics", lab.numerics}};
}

Json SamplerKey(const Lab& lab) {
  SamplerSettings sampler = lab.experiment.sampler;
  Json key = EncodeParams(sampler);
  key.erase("images_per_prompt");  // more replicates reuse the others
  return key;
}

// Reference pictures are drawn in batches of their own.
Json ReferenceSamplerKey(const Lab& lab) {
  Json key = SamplerKey(lab);
  key.erase("unit_size");
  return key;
}

Json DatasetKey(const Lab& lab) {
  return {{"name", lab.experiment.prompts.dataset},
          {"version", lab.dataset->version()},
          {"params", lab.dataset_params}};
}

Json PromptKey(const Prompt& prompt) {
  return {{"id", prompt.id}, {"root_id", prompt.root_id}, {"text", prompt.text}};
}

Json UnitKey(const Lab& lab, const Unit& unit) {
  Json prompts = Json::array();
  for (const Prompt& prompt : unit.prompts) {
    // A crafted prompt is named by its attack's artifact; a plain one by its text.
    prompts.push_back(unit.group == "target" && lab.attacks[unit.attack].name != kUnmodified
                          ? Json(Store::Digest(AttackKey(lab, unit.attack, unit.subject, prompt)))
                          : PromptKey(prompt));
  }
  Json key = PluginKey("generate", "sampler", 1, SamplerKey(lab), lab);
  key["seeds"] = {{"noise", lab.experiment.seeds.noise}, {"replicate", unit.replicate}};
  key["inputs"] = {{"backbone", lab.backbone.digest},
                   {"erased", Store::Digest(EraseKey(lab, unit.method, unit.subject))},
                   {"prompts", std::move(prompts)}};
  return key;
}

Json VerdictKey(const Lab& lab, const Unit& unit) {
  Json key = PluginKey("judge", "reporting", 1, Json::object(), lab);
  key["seeds"] = Json::object();
  key["inputs"] = {{"judge", lab.judges->digest()}, {"unit", unit.digest}};
  return key;
}

}  // namespace

Json EraseKey(const Lab& lab, size_t method, size_t subject) {
  const Entry<Method>& entry = lab.methods[method];
  Json key = PluginKey("erase", entry.name, entry.plugin->version(), entry.params, lab);
  key["seeds"] = {{"erase", lab.experiment.seeds.erase}};
  key["inputs"] = {{"backbone", lab.backbone.digest},
                   {"concept", ConceptToJson(VisibleToMethods(lab.concepts[subject]))},
                   {"dataset", DatasetKey(lab)},
                   {"sampler", SamplerKey(lab)}};
  if (!entry.folder_digest.empty()) key["inputs"]["folder"] = entry.folder_digest;
  return key;
}

Json AttackKey(const Lab& lab, size_t attack, size_t subject, const Prompt& prompt) {
  const Entry<Attack>& entry = lab.attacks[attack];
  Json key = PluginKey("attack", entry.name, entry.plugin->version(), entry.params, lab);
  key["seeds"] = {{"attack", lab.experiment.seeds.attack}};
  key["inputs"] = {{"prompt", PromptKey(prompt)},
                   {"concept", ConceptToJson(VisibleToMethods(lab.concepts[subject]))}};
  const auto* transfer = dynamic_cast<const TransferAttack*>(entry.plugin.get());
  if (transfer == nullptr || transfer->uses_surrogate()) {
    key["inputs"]["backbone"] = lab.backbone.digest;
    key["inputs"]["surrogate"] = lab.Surrogate().digest;
    key["inputs"]["sampler"] = ReferenceSamplerKey(lab);
  }
  return key;
}

Json ReferenceKey(const Lab& lab, const Prompt& prompt, int64_t n) {
  Json key = PluginKey("reference", "sampler", 1, ReferenceSamplerKey(lab), lab);
  key["seeds"] = {{"attack", lab.experiment.seeds.attack}};
  key["inputs"] = {
      {"backbone", lab.backbone.digest}, {"prompt", PromptKey(prompt)}, {"pictures", n}};
  return key;
}

Json ScoreKey(const Lab& lab, size_t metric, const std::vector<Unit>& units,
              const std::vector<Unit>& base_units) {
  const Entry<Metric>& entry = lab.metrics[metric];
  Json key = PluginKey("score", entry.name, entry.plugin->version(), entry.params, lab);
  const auto digests = [&](const std::vector<Unit>& list) {
    Json out = Json::array();
    for (const Unit& unit : list) {
      out.push_back({{"verdicts", unit.verdict_digest},
                     {"group", unit.group},
                     {"concept", lab.concepts[unit.subject].name},
                     {"judge", ConceptToJson(lab.concepts[unit.subject]).at("judge")},
                     {"anchor", lab.concepts[unit.subject].anchor}});
    }
    return out;
  };
  key["seeds"] = Json::object();
  key["inputs"] = {{"units", digests(units)},
                   {"base_units", digests(base_units)},
                   {"reference_clip", lab.reference_clip.digest}};
  return key;
}

std::vector<Unit> UnitsOf(const Lab& lab, size_t method, size_t subject, size_t attack,
                          const std::string& group) {
  std::vector<Unit> units;
  const auto found = lab.prompts[subject].find(group);
  if (found == lab.prompts[subject].end()) return units;
  const std::vector<Prompt>& prompts = found->second;
  const auto size = static_cast<size_t>(lab.experiment.sampler.unit_size);
  for (int64_t replicate = 0; replicate < lab.experiment.sampler.images_per_prompt; ++replicate) {
    for (size_t start = 0; start < prompts.size(); start += size) {
      const size_t end = std::min(start + size, prompts.size());
      Unit unit{method, subject,   attack,
                group,  replicate, {prompts.begin() + start, prompts.begin() + end},
                {},     {},        {},
                {}};
      unit.key = UnitKey(lab, unit);
      unit.digest = Store::Digest(unit.key);
      unit.verdict_key = VerdictKey(lab, unit);
      unit.verdict_digest = Store::Digest(unit.verdict_key);
      units.push_back(std::move(unit));
    }
  }
  return units;
}

}  // namespace excise
