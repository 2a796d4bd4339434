#include "experiments/formats/protocol.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/hash.h"
#include "core/text.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

void RequireKeys(const Json& object, const std::vector<std::string>& known,
                 const std::string& where) {
  if (!object.is_object()) throw Error(fmt::format("{}: expected an object.", where));
  for (const auto& [key, value] : object.items()) {
    if (IsOneOf(key, known)) continue;
    throw Error(fmt::format("{}: unknown key '{}'.{}", where, key, DidYouMeanOrKnown(key, known)));
  }
}

std::string TextAt(const Json& object, const std::string& key, const std::string& where,
                   bool needed = true) {
  if (!needed && !object.contains(key)) return "";
  if (object.contains(key) && object.at(key).is_string()) return object.at(key);
  throw Error(fmt::format("{}/{}: expected text.", where, key));
}

const Json& ListAt(const Json& object, const std::string& key, const std::string& where) {
  static const Json none = Json::array();
  if (!object.contains(key)) return none;
  if (object.at(key).is_array()) return object.at(key);
  throw Error(fmt::format("{}/{}: expected a list.", where, key));
}

ProtocolFile FileFrom(const Json& json, const std::string& where) {
  RequireKeys(json, {"setting", "name", "what", "sha256"}, where);
  ProtocolFile file{TextAt(json, "setting", where), TextAt(json, "name", where),
                    TextAt(json, "what", where), TextAt(json, "sha256", where, false)};
  const fs::path name = file.name;
  if (name.empty() || name.has_parent_path() || file.name[0] == '.') {
    throw Error(fmt::format("{}/name: '{}' is not the name of a file.", where, file.name));
  }
  if (!file.sha256.empty() && file.sha256.size() != 64) {
    throw Error(fmt::format("{}/sha256: '{}' is no SHA-256.", where, file.sha256));
  }
  return file;
}

// Why this file of the folder will not do, or "".
std::string ProblemOf(const ProtocolFile& file, const fs::path& path) {
  std::error_code code;
  const std::string expected = file.sha256.empty() ? "" : fmt::format(" SHA-256 {}.", file.sha256);
  if (!fs::exists(path, code)) return fmt::format("is not there: {}.{}", file.what, expected);
  if (file.sha256.empty() || !fs::is_regular_file(path, code)) return "";
  const std::string found = Sha256HexOfFile(path);
  if (found == file.sha256) return "";
  return fmt::format("is another file (SHA-256 {}), where this is expected: {}.{}", found,
                     file.what, expected);
}

// "judge.params.weights" -> /judge/params/weights
Json::json_pointer PlaceOf(std::string setting) {
  std::replace(setting.begin(), setting.end(), '.', '/');
  return Json::json_pointer("/" + setting);
}

}  // namespace

Protocol LoadProtocol(const fs::path& file) {
  const Json json = ReadJsonFile(file);
  const std::string where = file.string();
  RequireKeys(json, {"title", "paper", "source", "deviations", "files", "experiment"}, where);
  Protocol protocol;
  protocol.name = file.stem().string();
  protocol.title = TextAt(json, "title", where);
  protocol.paper = TextAt(json, "paper", where);
  protocol.source = TextAt(json, "source", where);
  protocol.sha256 = Sha256HexOfFile(file);
  for (const Json& one : ListAt(json, "deviations", where)) {
    if (!one.is_string()) throw Error(fmt::format("{}/deviations: expected texts.", where));
    protocol.deviations.push_back(one);
  }
  const Json& files = ListAt(json, "files", where);
  for (size_t i = 0; i < files.size(); ++i) {
    protocol.files.push_back(FileFrom(files[i], fmt::format("{}/files/{}", where, i)));
  }
  protocol.experiment = json.value("experiment", Json::object());
  // The rest is checked where every experiment is.
  if (!protocol.experiment.is_object() || protocol.experiment.contains("profiles") ||
      protocol.experiment.contains("name")) {
    throw Error(fmt::format(
        "{}/experiment: expected an object that overrides an experiment's keys; 'name' and "
        "'profiles' cannot be overridden.",
        where));
  }
  return protocol;
}

std::vector<std::string> ListProtocols(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

Json ProtocolSettings(const Protocol& protocol, const fs::path& folder) {
  Json settings = protocol.experiment;
  std::string problems;
  for (const ProtocolFile& file : protocol.files) {
    const fs::path path = folder / file.name;
    const std::string problem = ProblemOf(file, path);
    if (!problem.empty()) problems += fmt::format("\n  {}: {}", file.name, problem);
    settings[PlaceOf(file.setting)] = fs::absolute(path).lexically_normal().string();
  }
  if (!problems.empty()) {
    throw UsageError(fmt::format(
        "The protocol '{}' needs {} of yours in {}, and these are not as they should be:{}",
        protocol.name, protocol.files.size() == 1 ? "a file" : "files",
        folder.empty() ? "a folder that --protocol_files names" : folder.string(), problems));
  }
  settings["protocol"] = {{"name", protocol.name}, {"sha256", protocol.sha256}};
  settings["caveat"] = fmt::format("Protocol {}: {}.{}{}", protocol.name, protocol.title,
                                   protocol.deviations.empty() ? "" : " Other than its source: ",
                                   fmt::join(protocol.deviations, "; "));
  if (!protocol.deviations.empty())
    settings["caveat"] = settings["caveat"].get<std::string>() + ".";
  return settings;
}

void TellChanges(const Json& settings, const Json& before, const std::vector<std::string>& flags,
                 Json* experiment) {
  std::set<std::string> changed(flags.begin(), flags.end());
  for (const auto& [section, value] : settings.items()) {
    const Json was = Json{{section, before.at(section)}}.flatten();
    const Json is = Json{{section, experiment->at(section)}}.flatten();
    const auto differs = [&](const std::string& pointer) {
      return was.contains(pointer) != is.contains(pointer) || was.at(pointer) != is.at(pointer);
    };
    for (const Json* side : {&was, &is}) {
      for (const auto& [pointer, ignored] : side->items()) {
        if (!differs(pointer)) continue;
        std::string name = pointer.substr(1);
        std::replace(name.begin(), name.end(), '/', '.');
        changed.insert(name);
      }
    }
  }
  if (changed.empty()) return;
  (*experiment)["protocol"]["changed"] = changed;
  (*experiment)["caveat"] =
      fmt::format("{} Changed here, so this is another protocol: {}.",
                  experiment->at("caveat").get<std::string>(), fmt::join(changed, ", "));
}

}  // namespace excise
