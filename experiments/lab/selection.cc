#include "experiments/lab/selection.h"

#include <fmt/format.h>

#include <cctype>

#include "attacks/attack.h"
#include "core/error.h"
#include "core/text.h"
#include "experiments/results/record.h"
#include "methods/method.h"

namespace excise {
namespace {

// A row or column of the user's own name: {"plugin": "snapshot", ...}.
bool IsNamedByUser(const Json& params) { return params.is_object() && params.contains("plugin"); }

// Takes `field` out of the parameters: the name of a `what`; "" where it is not there.
std::string TakeName(const std::string& field, const std::string& what, const std::string& owner,
                     Json* params) {
  if (!params->is_object() || !params->contains(field)) return "";
  const Json name = params->at(field);
  params->erase(field);
  if (name.is_string() && !name.get<std::string>().empty()) return name;
  throw UsageError(fmt::format("{}: \"{}\" is the name of {}.", owner, field, what));
}

// Takes "removals" out of the parameters. Which concepts there are is not known yet.
std::optional<RemovalLists> TakeRemovals(const std::string& owner, Json* params) {
  if (!params->is_object() || !params->contains("removals")) return std::nullopt;
  std::vector<std::string> named;
  for (const Json& value : params->at("removals").flatten()) {
    if (value.is_string()) named.push_back(value);
  }
  const RemovalLists lists = ParseRemovals(*params, named, owner);
  params->erase("removals");
  return lists;
}

}  // namespace

Chosen Resolve(const Selection& selection, const std::string& kind, const std::string& name) {
  Chosen chosen;
  chosen.name = chosen.plugin = name;
  const auto given = selection.params.find(name);
  if (given == selection.params.end()) return chosen;
  chosen.params = given->second;
  const std::string owner = fmt::format("{} '{}'", kind, name);
  chosen.preset = TakeName("preset", "one", owner, &chosen.params);
  if (kind == Attack::kKind) {
    chosen.found_on = TakeName("found_on", "a row of the table", owner, &chosen.params);
  }
  if (kind == Method::kKind) chosen.removals = TakeRemovals(owner, &chosen.params);
  if (!IsNamedByUser(chosen.params)) return chosen;
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-';
  });
  if (!chosen.params["plugin"].is_string() || name.empty() || !plain || name == kUnion) {
    throw UsageError(fmt::format(
        "{} '{}': a name of one's own has letters, digits, _ and -, is not '{}', and \"plugin\" is "
        "the name of a {}.",
        kind, name, kUnion, kind));
  }
  chosen.plugin = chosen.params["plugin"];
  chosen.params.erase("plugin");
  return chosen;
}

std::vector<std::string> ChosenNames(const Selection& selection, const std::string& kind,
                                     const std::vector<std::string>& always,
                                     const std::vector<std::string>& registered) {
  std::vector<std::string> known = registered;
  for (const auto& [name, params] : selection.params) {
    if (!IsNamedByUser(params)) continue;
    if (IsOneOf(name, registered)) {
      throw UsageError(fmt::format(
          "{} '{}' is registered, so it cannot stand for another one. Choose a name of your own.",
          kind, name));
    }
    known.push_back(name);
  }
  const auto check = [&](const std::string& name) {
    if (!IsOneOf(name, known)) {
      ThrowUnknownName(kind, name, known);
    }
  };
  for (const std::string& name : always) check(name);
  for (const std::string& name : selection.only) check(name);
  for (const std::string& name : selection.exclude) check(name);
  for (const auto& [name, params] : selection.params) check(name);
  std::vector<std::string> chosen;
  std::vector<std::string> candidates = selection.only.empty() ? known : selection.only;
  candidates.insert(candidates.end(), always.begin(), always.end());
  for (const std::string& name : candidates) {
    const bool excluded = IsOneOf(name, selection.exclude);
    const bool repeated = IsOneOf(name, chosen);
    // A plug-in that was asked for by name is wanted, whatever the file leaves out.
    if (!repeated && (!excluded || !selection.only.empty())) chosen.push_back(name);
  }
  return chosen;
}

Json WithPreset(const std::map<std::string, Json>& presets, const Selection& selection,
                const Chosen& chosen, const std::string& kind) {
  const std::string& wanted = chosen.preset.empty() ? selection.preset : chosen.preset;
  const auto found = presets.find(wanted);
  if (found == presets.end()) {
    if (chosen.preset.empty()) return chosen.params;
    std::vector<std::string> known;
    for (const auto& [name, params] : presets) known.push_back(name);
    ThrowUnknownName(fmt::format("preset of {} '{}'", kind, chosen.name), wanted, known);
  }
  if (!chosen.params.is_object()) return chosen.params;
  Json params = found->second;
  params.merge_patch(chosen.params);
  return params;
}

void MoveToFront(std::vector<std::string>* names, const std::vector<std::string>& first) {
  std::stable_sort(names->begin(), names->end(), [&](const auto& a, const auto& b) {
    const auto rank = [&](const std::string& name) {
      return std::find(first.begin(), first.end(), name) - first.begin();
    };
    return rank(a) < rank(b);
  });
}

void ThrowMissing(const std::string& kind, const std::string& name, const std::string& missing,
                  const std::string& field) {
  throw UsageError(fmt::format("{} '{}' cannot run: {}. Set it, as in --set {}s.{}.{}=PATH.", kind,
                               name, missing, kind, name, field));
}

}  // namespace excise
