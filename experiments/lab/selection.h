// Which plug-ins of one kind take part in a run, and with which parameters.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/input_files.h"
#include "core/params.h"
#include "core/registry.h"
#include "experiments/formats/experiment.h"
#include "experiments/formats/removal_lists.h"
#include "experiments/lab/picture_folder.h"

namespace excise {

// A plug-in that takes part in the run, as a row or column `name`: its own name, or one that the
// experiment gives it ("my_esd": {"plugin": "snapshot", ...}), so that one plug-in can take part
// several times.
template <class Base>
struct Entry {
  std::string name, plugin_name;
  std::shared_ptr<Base> plugin;     // shared by the edits of one row
  Json params;                      // for results: defaults included, of files the name alone
  Json key_params;                  // for keys: without files
  Json files = Json::object();      // for keys: field -> SHA-256 of the file or folder
  std::string folder_digest = "";   // of the weights that a method loads itself, or ""
  std::string not_applicable = "";  // why it cannot run on this backbone, or ""
  // Pictures made elsewhere, which stand for a method; or null.
  std::shared_ptr<const PictureRow> pictures = nullptr;
  // Of an attack: the row against which it is crafted, to be used on all rows; "": on each its own.
  std::string found_on = "";
  // Of a method: the row's own lists of concepts that one edit removes together; none: those of the
  // experiment.
  std::optional<RemovalLists> removals = {};
  // Of a method: which of its row's edits it is. One row has several where the experiment has
  // several erase seeds; they stand one after another, from 0 on.
  size_t edit = 0;
};

// `plugin`, with its parameters set, as it is entered under `name`. Its files are added to
// `inputs`.
template <class Base>
Entry<Base> MakeEntry(const std::string& name, const std::string& plugin_name,
                      std::unique_ptr<Base> plugin, InputFiles* inputs) {
  Entry<Base> entry{name, plugin_name, std::move(plugin), {}, {}};
  entry.params = EncodeParams(*entry.plugin, PathForm::kName);
  entry.key_params = EncodeParams(*entry.plugin, PathForm::kLeftOut);
  for (const auto& [field, path] : PathsOf(*entry.plugin)) {
    entry.files[field] = inputs->Add(path);
  }
  return entry;
}

// The plug-in behind a name of a selection, and its parameters.
struct Chosen {
  std::string name, plugin;
  std::string preset;                    // asked for by the parameter "preset"
  std::string found_on;                  // by the parameter "found_on", of attacks alone
  std::optional<RemovalLists> removals;  // by "removals", of methods alone
  Json params = Json::object();
};

// Throws UsageError when a row's own name is not one, or its preset or found_on no name, or its
// removals no lists.
Chosen Resolve(const Selection& selection, const std::string& kind, const std::string& name);

// The names that take part: those of `always`, and what the selection says of `registered` ones and
// of the user's own.
std::vector<std::string> ChosenNames(const Selection& selection, const std::string& kind,
                                     const std::vector<std::string>& always,
                                     const std::vector<std::string>& registered);

// Parameters over the preset that was asked for. A preset asked for by this plug-in's own entry
// must be there; one asked for by the whole selection counts where it is.
Json WithPreset(const std::map<std::string, Json>& presets, const Selection& selection,
                const Chosen& chosen, const std::string& kind);

template <class Plugin>
auto PresetsOf(const Plugin& plugin) -> decltype(plugin.presets()) {
  return plugin.presets();
}
inline std::map<std::string, Json> PresetsOf(const Parameterised&) { return {}; }

[[noreturn]] void ThrowMissing(const std::string& kind, const std::string& name,
                               const std::string& missing, const std::string& field);

// Names of `first` before the others; both parts keep their order.
void MoveToFront(std::vector<std::string>* names, const std::vector<std::string>& first);

// `first` come first, `always` take part whatever was chosen. A plug-in that needs a setting which
// nobody made is left out, unless it was asked for.
template <class Base>
std::vector<Entry<Base>> Instantiate(const Selection& selection,
                                     const std::vector<std::string>& first,
                                     const std::vector<std::string>& always, InputFiles* inputs) {
  std::vector<std::string> names =
      ChosenNames(selection, Base::kKind, always, Registry<Base>::Get().Names());
  std::sort(names.begin(), names.end());
  MoveToFront(&names, first);
  std::vector<Entry<Base>> entries;
  for (const std::string& name : names) {
    const Chosen chosen = Resolve(selection, Base::kKind, name);
    std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(chosen.plugin);
    DecodeParams(WithPreset(PresetsOf(*plugin), selection, chosen, Base::kKind), *plugin,
                 std::string(Base::kKind) + " '" + name + "'");
    const std::string missing = MissingSetting(*plugin);
    if (!missing.empty()) {
      if (selection.only.empty() && selection.params.count(name) == 0) continue;
      ThrowMissing(Base::kKind, name, missing, plugin->needs_one_of().front());
    }
    entries.push_back(MakeEntry<Base>(name, chosen.plugin, std::move(plugin), inputs));
    entries.back().found_on = chosen.found_on;
    entries.back().removals = chosen.removals;
  }
  return entries;
}

}  // namespace excise
