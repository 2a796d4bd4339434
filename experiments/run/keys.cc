#include "experiments/run/keys.h"

#include <algorithm>

#include "core/hash.h"
#include "core/store.h"
#include "experiments/results/artifacts.h"

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

// Files of the user enter by their content, and only where there are any.
template <class Base>
Json EntryKey(const char* stage, const Entry<Base>& entry, const Lab& lab) {
  return PluginKey(stage, entry.plugin_name, entry.plugin->version(), entry.key_params, lab);
}

template <class Base>
void AddFiles(const Entry<Base>& entry, Json* inputs) {
  if (!entry.files.empty()) (*inputs)["files"] = entry.files;
}

Json SamplerKey(const SamplerSettings& sampler) {
  Json key = SamplerToJson(sampler);
  key.erase("images_per_prompt");  // more replicates reuse the others
  return key;
}

// Reference pictures are drawn in batches of their own.
Json ReferenceSamplerKey(const Lab& lab) {
  Json key = SamplerKey(lab.experiment.sampler);
  key.erase("unit_size");
  return key;
}

// Pictures made elsewhere are keyed by their bytes and by the size to which they are brought; those
// that are not there by what is said of them, for that is stored as well.
Json PictureUnitKey(const Lab& lab, const Unit& unit, Json prompts) {
  Json pictures = Json::array();
  for (const Prompt& prompt : unit.prompts) {
    const PictureRow::Picture* picture = PictureOf(lab, unit, prompt);
    const bool there = picture != nullptr && !picture->sha256.empty();
    const std::string name = picture == nullptr ? "" : picture->file.filename().string();
    pictures.push_back(there ? Json(picture->sha256) : Json{{"missing", name}});
  }
  Json key = PluginKey("generate", "pictures", 2, {{"side", lab.PictureSide()}}, lab);
  key["seeds"] = {{"replicate", unit.replicate}};
  key["inputs"] = {{"pictures", std::move(pictures)}, {"prompts", std::move(prompts)}};
  return key;
}

Json UnitKey(const Lab& lab, const Unit& unit) {
  Json prompts = Json::array();
  for (const Prompt& prompt : unit.prompts) {
    // A crafted prompt is named by its attack's artifact; a plain one by its text.
    prompts.push_back(
        IsCrafted(lab, unit)
            ? Json(Store::Digest(AttackKey(lab, unit.attack, unit.method, unit.subject, prompt)))
            : PromptToJson(prompt));
  }
  if (lab.methods[unit.method].pictures != nullptr) {
    return PictureUnitKey(lab, unit, std::move(prompts));
  }
  Json key = PluginKey("generate", "sampler", 1, SamplerKey(lab.experiment.sampler), lab);
  key["seeds"] = {{"noise", lab.experiment.seeds.noise}, {"replicate", unit.replicate}};
  key["inputs"] = {{"backbone", lab.backbone.digest},
                   {"erased", Store::Digest(EraseKey(lab, unit.method, unit.subject))},
                   {"prompts", std::move(prompts)}};
  return key;
}

Json EmbedKey(const Lab& lab, const Unit& unit) {
  Json items = Json::array();
  for (const Prompt& prompt : unit.prompts) items.push_back(prompt.id);
  Json key = PluginKey("embed", "clip", kEmbeddingVersion, Json::object(), lab);
  key["seeds"] = Json::object();
  key["inputs"] = {{"backbone", lab.backbone.digest},
                   {"erased", Store::Digest(EraseKey(lab, unit.method, unit.subject))},
                   {"quadruplets", lab.quadruplets->Key(unit.group)},
                   {"items", std::move(items)}};
  return key;
}

Json VerdictKey(const Lab& lab, const Unit& unit) {
  const Entry<Judge>& judge = lab.JudgeOf(unit.subject);
  Json key = EntryKey("judge", judge, lab);
  key["seeds"] = Json::object();
  key["inputs"] = {{"judge", judge.plugin->digest()}, {"unit", unit.digest}};
  AddFiles(judge, &key["inputs"]);
  return key;
}

void SetKeys(const Lab& lab, Unit* unit) {
  const bool embedded = IsEmbeddedGroup(unit->group);
  unit->key = embedded ? EmbedKey(lab, *unit) : UnitKey(lab, *unit);
  unit->digest = Store::Digest(unit->key);
  // Nobody judges embeddings.
  unit->verdict_key = embedded ? unit->key : VerdictKey(lab, *unit);
  unit->verdict_digest = Store::Digest(unit->verdict_key);
}

}  // namespace

Unit UnderMethod(const Lab& lab, Unit unit, size_t method) {
  unit.method = method;
  SetKeys(lab, &unit);
  return unit;
}

bool IsCrafted(const Lab& lab, const Unit& unit) {
  if (unit.group != "target" || lab.attacks[unit.attack].name == kUnmodified) return false;
  return !lab.ForEachMethod(unit.attack) || !lab.MadeElsewhere(unit.method);
}

namespace {

const std::vector<Prompt>& TargetsOf(const Lab& lab, size_t subject) {
  static const std::vector<Prompt> none;
  const auto found = lab.prompts.at(subject).find("target");
  return found == lab.prompts[subject].end() ? none : found->second;
}

}  // namespace

LanePlace PlaceOf(const Lab& lab, size_t attack, size_t subject, const Prompt& prompt) {
  const auto lanes = static_cast<size_t>(lab.TraitsOf(attack).lanes);
  const std::vector<Prompt>& all = TargetsOf(lab, subject);
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Prompt& one) { return one.id == prompt.id; });
  // One that is in no list is crafted by itself.
  if (found == all.end()) return {all.size(), 0};
  const auto place = static_cast<size_t>(found - all.begin());
  return {place / lanes, place % lanes};
}

std::vector<std::optional<Prompt>> PromptsOfGroup(const Lab& lab, size_t attack, size_t subject,
                                                  const Prompt& prompt) {
  std::vector<std::optional<Prompt>> prompts(static_cast<size_t>(lab.TraitsOf(attack).lanes));
  const LanePlace own = PlaceOf(lab, attack, subject, prompt);
  const std::vector<Prompt>& all = TargetsOf(lab, subject);
  for (size_t lane = 0; lane < prompts.size(); ++lane) {
    const size_t place = own.group * prompts.size() + lane;
    if (lane == own.lane || place >= all.size()) continue;
    if (lab.ReasonNotAttacked(attack, subject, all[place]).empty()) prompts[lane] = all[place];
  }
  prompts[own.lane] = prompt;
  return prompts;
}

Json EraseKey(const Lab& lab, size_t method, size_t subject) {
  const Entry<Method>& entry = lab.methods[method];
  Json key = EntryKey("erase", entry, lab);
  key["seeds"] = {{"erase", lab.EraseSeedOf(method)}};
  key["inputs"] = {{"backbone", lab.backbone.digest}};
  const RemovalInputs& inputs = lab.removals.at(method).at(subject);
  for (const Concept& one : inputs.concepts) {
    key["inputs"]["concepts"].push_back(ConceptToJson(one));
  }
  for (const auto& [list, read] : inputs.prompts) {
    key["inputs"]["prompts"][list.first][list.second] =
        read.problem.empty() ? Json(read.texts) : Json{{"problem", read.problem}};
  }
  if (inputs.pictures) key["inputs"]["sampler"] = SamplerKey(*inputs.pictures);
  if (const auto parts = entry.plugin->traits().parts; !parts.empty()) {
    key["inputs"]["parts"] = parts;
  }
  if (!entry.folder_digest.empty()) key["inputs"]["folder"] = entry.folder_digest;
  AddFiles(entry, &key["inputs"]);
  return key;
}

namespace {

// What the attack's target hands out, beside the prompt or the seeds.
Json TargetKey(const char* stage, const Lab& lab, size_t attack, size_t method, size_t subject,
               const AttackInputs& inputs) {
  const Entry<Attack>& entry = lab.attacks[attack];
  const size_t victim = lab.VictimOf(attack, method);
  Json key = EntryKey(stage, entry, lab);
  key["seeds"] = {{"attack", lab.experiment.seeds.attack}};
  key["inputs"] = {{"concept", ConceptToJson(inputs.subject)}};
  AddFiles(entry, &key["inputs"]);
  if (inputs.surrogate != nullptr) {
    key["inputs"]["backbone"] = lab.backbone.digest;
    key["inputs"]["surrogate"] = inputs.surrogate->digest;
  }
  // How pictures are drawn, of the unmodified model or of the edited one.
  if (inputs.surrogate != nullptr || inputs.traits.ForEachMethod()) {
    key["inputs"]["sampler"] = ReferenceSamplerKey(lab);
  }
  if (inputs.traits.ForEachMethod()) {
    key["inputs"]["erased"] = Store::Digest(EraseKey(lab, victim, subject));
  }
  if (inputs.traits.queries > 0) {
    key["inputs"]["oracle"] = inputs.judge->oracle_digest();
    key["inputs"]["judged"] = ConceptToJson(inputs.judged);
  }
  return key;
}

}  // namespace

Json AttackKey(const Lab& lab, size_t attack, size_t method, size_t subject, const Prompt& prompt) {
  const AttackInputs inputs = InputsOfAttack(lab, attack, subject, prompt);
  if (inputs.traits.per == AttackTraits::Per::kConcept) {
    Json key = EntryKey("attack", lab.attacks[attack], lab);
    key["inputs"] = {{"prompt", PromptToJson(prompt)},
                     {"backbone", lab.backbone.digest},
                     {"learnt", Store::Digest(LearnKey(lab, attack, method, subject))}};
    return key;
  }
  Json key = TargetKey("attack", lab, attack, method, subject, inputs);
  key["inputs"]["prompt"] = PromptToJson(inputs.prompt);
  // A row's bytes may depend on its place in a pass.
  if (inputs.traits.lanes > 1) {
    key["inputs"]["lane"] = PlaceOf(lab, attack, subject, prompt).lane;
  }
  return key;
}

Json LearnKey(const Lab& lab, size_t attack, size_t method, size_t subject) {
  const AttackInputs inputs = InputsOfLearning(lab, attack, subject);
  Json key = TargetKey("learn", lab, attack, method, subject, inputs);
  key["inputs"]["prompts"] = Json::array();
  for (const Prompt& seed : inputs.seeds) key["inputs"]["prompts"].push_back(PromptToJson(seed));
  return key;
}

Json OffersKey(const Lab& lab, size_t method, size_t subject) {
  Json key = PluginKey("offers", lab.methods[method].plugin_name, 1, Json::object(), lab);
  key["seeds"] = Json::object();
  key["inputs"] = {{"erased", Store::Digest(EraseKey(lab, method, subject))}};
  return key;
}

Json ReferenceKey(const Lab& lab, const Prompt& prompt, int64_t n) {
  Json key = PluginKey("reference", "sampler", 1, ReferenceSamplerKey(lab), lab);
  key["seeds"] = {{"attack", lab.experiment.seeds.attack}};
  key["inputs"] = {
      {"backbone", lab.backbone.digest}, {"prompt", PromptToJson(prompt)}, {"pictures", n}};
  return key;
}

Json RetainedKey(const Lab& lab, int64_t seed, const std::vector<Prompt>& prompts) {
  Json key = PluginKey("retained", "sampler", 1, SamplerKey(lab.experiment.sampler), lab);
  key["seeds"] = {{"erase", seed}};
  Json texts = Json::array();
  for (const Prompt& prompt : prompts) texts.push_back(prompt.text);
  key["inputs"] = {{"backbone", lab.backbone.digest}, {"prompts", std::move(texts)}};
  return key;
}

namespace {

std::string DigestOfModel(const Lab& lab, const std::string& name) {
  if (name == "judge") return lab.judges.at(0).plugin->digest();  // all concepts': OpenJudges
  if (name == "reference_clip") return lab.reference_clip.digest;
  if (name == "base_clip") return lab.own_clip.digest;
  return lab.independent_clip.digest;
}

}  // namespace

Json ScoreKey(const Lab& lab, size_t metric, const std::vector<const Unit*>& units,
              const std::vector<const Unit*>& base_units) {
  const Entry<Metric>& entry = lab.metrics[metric];
  Json key = EntryKey("score", entry, lab);
  const auto digests = [&](const std::vector<const Unit*>& list) {
    Json out = Json::array();
    for (const Unit* unit : list) {
      out.push_back({{"verdicts", unit->verdict_digest},
                     {"group", unit->group},
                     {"concept", lab.measured.at(unit->subject).name}});
    }
    return out;
  };
  key["seeds"] = Json::object();
  key["inputs"] = {{"units", digests(units)}, {"base_units", digests(base_units)}};
  for (const auto* list : {&units, &base_units}) {
    for (const Unit* unit : *list) {
      const Concept& subject = lab.measured.at(unit->subject);
      Json& read = key["inputs"]["concepts"][subject.name];
      if (read.is_null()) read = ConceptToJson(subject);
    }
  }
  for (const std::string& name : entry.plugin->traits().models) {
    key["inputs"]["models"][name] = DigestOfModel(lab, name);
  }
  AddFiles(entry, &key["inputs"]);
  return key;
}

std::optional<int64_t> SeedAmongEdits(const Lab& lab, size_t method) {
  if (lab.EditsOf(method) == 1) return std::nullopt;
  return lab.EraseSeedOf(method);
}

const PictureRow::Picture* PictureOf(const Lab& lab, const Unit& unit, const Prompt& prompt) {
  const auto& pictures = lab.methods[unit.method].pictures->pictures;
  const auto found = pictures.find({unit.subject, unit.attack, prompt.root_id, unit.replicate});
  return found == pictures.end() ? nullptr : &found->second;
}

std::vector<Unit> UnitsOf(const Lab& lab, size_t method, size_t subject, size_t attack,
                          const std::string& group) {
  std::vector<Unit> units;
  const auto found = lab.prompts[subject].find(group);
  if (found == lab.prompts[subject].end()) return units;
  const PictureRow* pictures = lab.methods[method].pictures.get();
  if (pictures != nullptr && pictures->offered.count({subject, attack, group}) == 0) return units;
  if (pictures == nullptr && !lab.AttackApplies(attack, method)) return units;
  std::vector<Prompt> prompts = found->second;
  if (group == "target") {
    const auto left_out = [&](const Prompt& seed) {
      return !lab.ReasonNotAttacked(attack, subject, seed).empty();
    };
    prompts.erase(std::remove_if(prompts.begin(), prompts.end(), left_out), prompts.end());
  }
  const bool embedded = IsEmbeddedGroup(group);
  const auto size = static_cast<size_t>(embedded ? lab.experiment.quadruplets.unit_size
                                                 : lab.experiment.sampler.unit_size);
  const int64_t replicates = embedded ? 1 : lab.experiment.sampler.images_per_prompt;
  for (int64_t replicate = 0; replicate < replicates; ++replicate) {
    for (size_t start = 0; start < prompts.size(); start += size) {
      const size_t end = std::min(start + size, prompts.size());
      Unit unit{method, subject,   attack,
                group,  replicate, {prompts.begin() + start, prompts.begin() + end},
                {},     {},        {},
                {}};
      SetKeys(lab, &unit);
      units.push_back(std::move(unit));
    }
  }
  return units;
}

}  // namespace excise
