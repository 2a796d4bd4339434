#include "experiments/formats/experiment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "core/text.h"
#include "experiments/formats/protocol.h"
#include "experiments/formats/removal_lists.h"
#include "models/formats/scheduler_config.h"

namespace excise {
namespace {

const std::vector<std::string> kKeys = {
    "name",           "title",       "backbone", "concepts", "methods",  "attacks",   "metrics",
    "reference_rows", "prompts",     "sampler",  "seeds",    "profiles", "surrogate", "golden",
    "caveat",         "quadruplets", "removals", "judge",    "floor",    "protocol"};

void CheckKeys(const Json& object, const std::vector<std::string>& known,
               const std::string& origin) {
  if (!object.is_object()) throw UsageError(fmt::format("{}: expected an object.", origin));
  for (const auto& [key, value] : object.items()) {
    if (IsOneOf(key, known)) continue;
    throw UsageError(
        fmt::format("{}: unknown key '{}'.{}", origin, key, DidYouMeanOrKnown(key, known)));
  }
}

std::vector<std::string> Texts(const Json& object, const char* key, const std::string& origin) {
  std::vector<std::string> texts;
  if (!object.contains(key)) return texts;
  const Json& list = object[key];
  const bool good = list.is_array() && std::all_of(list.begin(), list.end(),
                                                   [](const Json& v) { return v.is_string(); });
  if (!good) throw UsageError(fmt::format("{}/{}: expected a list of names.", origin, key));
  return list.get<std::vector<std::string>>();
}

std::string Text(const Json& object, const char* key, const std::string& fallback,
                 const std::string& origin) {
  if (!object.contains(key)) return fallback;
  if (!object[key].is_string()) throw UsageError(fmt::format("{}/{}: expected text.", origin, key));
  return object[key].get<std::string>();
}

// Fit to be a part of a file's name.
bool IsPlain(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-';
  });
}

Selection ParseSelection(const Json& object, const std::string& origin) {
  CheckKeys(object, {"only", "exclude", "preset", "params"}, origin);
  Selection selection;
  selection.only = Texts(object, "only", origin);
  selection.exclude = Texts(object, "exclude", origin);
  selection.preset = Text(object, "preset", "", origin);
  if (object.contains("params")) {
    if (!object["params"].is_object()) {
      throw UsageError(fmt::format("{}/params: expected an object of objects.", origin));
    }
    for (const auto& [name, params] : object["params"].items()) selection.params[name] = params;
  }
  return selection;
}

// A value, a list of values, or a list of parts that are plug-ins with settings of their own.
bool IsSetting(const Json& value, int depth = 0) {
  constexpr int kDeepest = 4;
  if (value.is_primitive()) return true;
  if (!value.is_array() || depth > kDeepest) return false;
  return std::all_of(value.begin(), value.end(), [depth](const Json& one) {
    if (!one.is_object()) return one.is_primitive();
    return std::all_of(one.begin(), one.end(),
                       [depth](const Json& inner) { return IsSetting(inner, depth + 1); });
  });
}

JudgeChoice ParseJudge(const Json& object, const std::string& origin) {
  CheckKeys(object, {"plugin", "params"}, origin);
  JudgeChoice judge{Text(object, "plugin", "", origin), Json::object()};
  CanonicalJson(judge.plugin);  // refuses what no results file could hold
  if (judge.plugin.empty()) {
    throw UsageError(fmt::format(
        "{}: 'plugin' is missing; the judge's name, as in {{\"plugin\": \"emoji\"}}.", origin));
  }
  if (!object.contains("params")) return judge;
  judge.params = object["params"];
  if (!judge.params.is_object()) {
    throw UsageError(fmt::format("{}/params: expected an object.", origin));
  }
  for (const auto& [name, value] : judge.params.items()) {
    if (IsSetting(value)) continue;
    throw UsageError(
        fmt::format("{}/params/{}: expected a value or a list of values.", origin, name));
  }
  CanonicalJson(judge.params);
  return judge;
}

// "5" -> 5, "true" -> true, "ddim" -> "ddim".
Json ParseValue(const std::string& text) {
  const Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return value.is_discarded() ? Json(text) : value;
}

// Sets "a.b" in `object`. The path's head must be one of the sections that can be set.
void ApplySetting(Json* object, const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError(
        fmt::format("--set {}: expected path=value, as in --set sampler.guidance=5.", setting));
  }
  const std::string path = setting.substr(0, equals);
  std::vector<std::string> parts;
  for (size_t start = 0; start <= path.size();) {
    const size_t dot = std::min(path.find('.', start), path.size());
    parts.push_back(path.substr(start, dot - start));
    start = dot + 1;
  }
  // methods.esd.lr is short for methods.params.esd.lr.
  const std::vector<std::string> plugin_sections = {"methods", "attacks", "metrics"};
  const std::vector<std::string> sections = {"methods", "attacks", "metrics",     "prompts",
                                             "sampler", "seeds",   "quadruplets", "judge"};
  if (!IsOneOf(parts[0], sections)) {
    throw UsageError(fmt::format("--set {}: unknown section '{}'.{}", setting, parts[0],
                                 DidYouMeanOrKnown(parts[0], sections)));
  }
  if (IsOneOf(parts[0], plugin_sections) && parts.size() == 3) {
    parts.insert(parts.begin() + 1, "params");
  }
  Json* node = object;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    Json& child = (*node)[parts[i]];
    if (child.is_null()) child = Json::object();
    if (!child.is_object()) {
      throw UsageError(fmt::format("--set {}: '{}' is not an object.", setting, parts[i]));
    }
    node = &child;
  }
  (*node)[parts.back()] = ParseValue(setting.substr(equals + 1));
}

// "erase" may be a list: its first number stands for it, the others are moved to `more`.
Json WithOneEraseSeed(Json section, const std::string& origin, std::vector<int64_t>* more) {
  if (!section.is_object() || !section.contains("erase") || !section["erase"].is_array()) {
    return section;
  }
  const Json list = section["erase"];
  const auto refuse = [&](const std::string& what) {
    throw UsageError(fmt::format("{}/erase: {}, as in 1 or [1, 2, 3].", origin, what));
  };
  if (list.empty()) refuse("the list has no seed; expected one or several whole numbers");
  for (size_t i = 0; i < list.size(); ++i) {
    const bool whole = list[i].is_number_unsigned() ||
                       (list[i].is_number_integer() && list[i].get<int64_t>() >= 0);
    if (!whole || list[i].get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
      refuse(fmt::format("{} is no seed; expected whole numbers from 0 on", list[i].dump()));
    }
    for (size_t j = 0; j < i; ++j) {
      if (list[i] == list[j]) refuse(fmt::format("{} is there twice", list[i].dump()));
    }
    if (i > 0) more->push_back(list[i].get<int64_t>());
  }
  section["erase"] = list[0];
  return section;
}

// One erase seed is a number, however it was written.
Json SeedsToJson(Seeds seeds) {
  Json json = EncodeParams(seeds);
  if (seeds.more_erase.empty()) return json;
  json["erase"] = {seeds.erase};
  for (const int64_t seed : seeds.more_erase) json["erase"].push_back(seed);
  return json;
}

// The section without its "params", which are the data set's own.
Json WithoutParams(Json section, Json* params) {
  if (section.is_object() && section.contains("params")) {
    *params = section["params"];
    section.erase("params");
  }
  return section;
}

Experiment ParseExperiment(const Json& object, const std::string& origin) {
  CheckKeys(object, kKeys, origin);
  Experiment e;
  e.name = Text(object, "name", "", origin);
  e.title = Text(object, "title", e.name, origin);
  e.backbone = Text(object, "backbone", e.backbone, origin);
  e.concepts = Texts(object, "concepts", origin);
  e.removals = ParseRemovals(object, e.concepts, origin);
  e.reference_rows = Texts(object, "reference_rows", origin);
  e.floor = Text(object, "floor", "", origin);
  if (!e.floor.empty() && !IsOneOf(e.floor, e.reference_rows)) {
    throw UsageError(fmt::format("{}/floor: '{}' is not among \"reference_rows\".{}", origin,
                                 e.floor, DidYouMeanOrKnown(e.floor, e.reference_rows)));
  }
  const auto section = [&](const char* key) {
    return object.contains(key) ? object[key] : Json::object();
  };
  e.methods = ParseSelection(section("methods"), origin + "/methods");
  e.attacks = ParseSelection(section("attacks"), origin + "/attacks");
  e.metrics = ParseSelection(section("metrics"), origin + "/metrics");
  DecodeParams(WithoutParams(section("prompts"), &e.dataset_params), e.prompts,
               origin + "/prompts");
  DecodeParams(WithoutParams(section("quadruplets"), &e.quadruplet_params), e.quadruplets,
               origin + "/quadruplets");
  if (object.contains("quadruplets") && e.quadruplets.set.empty()) {
    throw UsageError(fmt::format(
        "{}/quadruplets: 'set' is missing; 'emoji' or 'visu', as in {{\"set\": \"emoji\"}}.",
        origin));
  }
  if (object.contains("judge")) e.judge = ParseJudge(object["judge"], origin + "/judge");
  DecodeParams(section("sampler"), e.sampler, origin + "/sampler");
  std::string& scheduler = e.sampler.scheduler;
  if (!scheduler.empty()) scheduler = CheckedSchedulerName(scheduler);
  DecodeParams(WithOneEraseSeed(section("seeds"), origin + "/seeds", &e.seeds.more_erase), e.seeds,
               origin + "/seeds");
  e.caveat = Text(object, "caveat", "", origin);
  if (object.contains("protocol")) {
    CheckKeys(object["protocol"], {"name", "sha256", "changed"}, origin + "/protocol");
    Text(object["protocol"], "name", "", origin + "/protocol");
    Text(object["protocol"], "sha256", "", origin + "/protocol");
    Texts(object["protocol"], "changed", origin + "/protocol");
    e.protocol = object["protocol"];
  }
  e.surrogate = Text(object, "surrogate", e.surrogate, origin);
  if (e.surrogate != "base" && e.surrogate != "independent") {
    throw UsageError(fmt::format("{}/surrogate: '{}' is neither 'base' nor 'independent'.", origin,
                                 e.surrogate));
  }
  if (object.contains("golden")) {
    if (!object["golden"].is_boolean()) {
      throw UsageError(fmt::format("{}/golden: expected true or false.", origin));
    }
    e.golden = object["golden"];
  }
  if (!IsPlain(e.name)) {
    throw UsageError(fmt::format(
        "{}/name: '{}'; a name of letters, digits, _ and - is needed, for files are called by it.",
        origin, e.name));
  }
  if (e.concepts.empty()) {
    throw UsageError(fmt::format("{}: 'concepts' names nothing to remove.", origin));
  }
  return e;
}

void CheckProfiles(const Json& profiles, const std::string& origin) {
  if (!profiles.is_object()) {
    throw UsageError(fmt::format("{}/profiles: expected an object of objects.", origin));
  }
  for (const auto& [name, patch] : profiles.items()) {
    if (!IsPlain(name)) {
      throw UsageError(fmt::format(
          "{}/profiles: '{}'; a name of letters, digits, _ and - is needed, for files are called "
          "by it.",
          origin, name));
    }
    if (patch.is_object() && !patch.contains("profiles") && !patch.contains("name")) continue;
    throw UsageError(
        fmt::format("{}/profiles/{}: expected an object that overrides the experiment's keys; "
                    "'name' and 'profiles' cannot be overridden.",
                    origin, name));
  }
}

void LimitPrompts(int64_t limit, PromptCounts* counts, QuadrupletSettings* quadruplets) {
  if (limit < 0) {
    throw UsageError(fmt::format("--limit={}: 1 or more prompts, or 0 for all.", limit));
  }
  if (limit == 0) return;
  for (int64_t* count :
       {&counts->target, &counts->near, &counts->far, &counts->lexical, &counts->implied,
        &counts->pairs, &quadruplets->pool, &quadruplets->unseen, &quadruplets->zero_shot}) {
    *count = std::min(*count, limit);
  }
}

}  // namespace

void PromptCounts::Fields(ParamVisitor& v) {
  v.Text("dataset", &dataset, "data set plug-in that the prompts come from");
  v.Choice("split", &split, "which part of the data set; defaults are tuned on select",
           {"test", "select"});
  v.Integer("target", &target, "prompts a concept that ask for the target", {1, 100000});
  v.Integer("near", &near, "prompts a concept about near neighbours", {0, 100000});
  v.Integer("far", &far, "prompts a concept about far neighbours", {0, 100000});
  v.Integer("lexical", &lexical, "prompts a concept about lexical neighbours", {0, 100000});
  v.Integer("implied", &implied, "prompts a concept that describe the target and do not name it",
            {0, 100000});
  v.Integer("pairs", &pairs, "prompts a concept that ask for the target and another thing",
            {0, 100000});
}

void SamplerSettings::Fields(ParamVisitor& v) {
  v.Text("scheduler", &scheduler,
         fmt::format("{}, or empty for the snapshot's own", fmt::join(SchedulerNames(), ", ")));
  v.Integer("steps", &steps, "denoising steps", {1, 1000});
  v.Integer("images_per_prompt", &images_per_prompt, "pictures a prompt, each with its own noise",
            {1, 1000});
  v.Integer("unit_size", &unit_size, "prompts a batch; part of every key", {2, 1024});
  v.Number("guidance", &guidance, "classifier-free guidance scale", {0, 100});
  v.Choice(
      "noise", &noise,
      "where noise comes from: philox, by the prompt's id, or torch_cpu, what torch.randn gives "
      "on the CPU by the seed in the prompt's row",
      {"philox", "torch_cpu"});
  v.Flag("own_guidance", &own_guidance, "whether the guidance scale is that in the prompt's row");
}

Json SamplerToJson(SamplerSettings sampler) {
  Json json = EncodeParams(sampler);
  if (json["noise"] == SamplerSettings().noise) json.erase("noise");
  if (json["own_guidance"] == false) json.erase("own_guidance");
  return json;
}

void QuadrupletSettings::Fields(ParamVisitor& v) {
  v.Text("set", &set, "quadruplets: emoji, or visu with the user's files");
  v.Choice("part", &part, "which part is scored; defaults are tuned on validation",
           {"test", "validation"});
  v.Integer("pool", &pool, "quadruplets, among which items are retrieved", {1, 1000000});
  v.Integer("unseen", &unseen, "quadruplets of unsafe concepts that training never shows",
            {0, 1000000});
  v.Integer("zero_shot", &zero_shot, "pictures of things outside the quadruplets", {0, 1000000});
  v.Integer("unit_size", &unit_size, "rows an artifact", {1, 100000});
}

void Seeds::Fields(ParamVisitor& v) {
  v.Integer("erase", &erase, "seed of removal methods, or a list: an edit with each",
            {0, INT64_MAX});
  v.Integer("attack", &attack, "seed of attacks", {0, INT64_MAX});
  v.Integer("noise", &noise, "seed of the pictures' noise", {0, INT64_MAX});
}

Experiment LoadExperiment(const std::filesystem::path& file, const ExperimentChoices& choices) {
  Experiment e = MakeExperiment(ReadJsonFile(file), file.filename().string(), choices);
  e.file = file;
  return e;
}

Experiment MakeExperiment(Json object, const std::string& origin,
                          const ExperimentChoices& choices) {
  if (!object.is_object()) throw UsageError(fmt::format("{}: expected an object.", origin));
  const Json profiles = object.contains("profiles") ? object["profiles"] : Json::object();
  CheckProfiles(profiles, origin);
  if (profiles.contains(choices.profile)) {
    object.merge_patch(profiles[choices.profile]);
  } else if (choices.profile != "default") {
    std::vector<std::string> known = {"default"};
    for (const auto& [name, patch] : profiles.items()) {
      if (name != known.front()) known.push_back(name);
    }
    throw UsageError(fmt::format("--profile={}: no such profile in {}.{}", choices.profile, origin,
                                 DidYouMeanOrKnown(choices.profile, known)));
  }
  object.merge_patch(choices.protocol);
  const Json before = object;
  for (const std::string& setting : choices.settings) ApplySetting(&object, setting);
  if (!choices.protocol.empty()) {
    std::vector<std::string> flags;
    if (!choices.concepts.empty()) flags.push_back("--concepts");
    if (choices.limit > 0) flags.push_back("--limit");
    TellChanges(choices.protocol, before, flags, &object);
  }
  Experiment e = ParseExperiment(object, origin);
  e.profile = choices.profile;
  if (!choices.methods.empty()) e.methods.only = choices.methods;
  if (!choices.attacks.empty()) e.attacks.only = choices.attacks;
  if (!choices.metrics.empty()) e.metrics.only = choices.metrics;
  if (!choices.concepts.empty()) e.concepts = choices.concepts;
  e.removals = RemovalsAmong(e.concepts, e.removals);
  LimitPrompts(choices.limit, &e.prompts, &e.quadruplets);
  return e;
}

Json ExperimentToJson(Experiment e) {
  Json json = {{"name", e.name},
               {"title", e.title},
               {"backbone", e.backbone},
               {"profile", e.profile},
               {"golden", e.golden},
               {"caveat", e.caveat},
               {"surrogate", e.surrogate},
               {"concepts", e.concepts},
               {"reference_rows", e.reference_rows},
               {"prompts", EncodeParams(e.prompts)},
               {"sampler", SamplerToJson(e.sampler)},
               {"seeds", SeedsToJson(e.seeds)}};
  if (!e.floor.empty()) json["floor"] = e.floor;
  if (!e.protocol.empty()) json["protocol"] = e.protocol;
  for (const char* group : {"implied", "pairs"}) {
    if (json["prompts"][group] == 0) json["prompts"].erase(group);
  }
  if (!e.removals.empty()) json["removals"] = e.removals;
  if (!e.quadruplets.set.empty()) json["quadruplets"] = EncodeParams(e.quadruplets);
  if (!e.judge.plugin.empty()) {
    json["judge"] = {{"plugin", e.judge.plugin}, {"params", e.judge.params}};
  }
  return json;
}

}  // namespace excise
