#include "experiments/formats/results_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "core/data_file.h"
#include "core/error.h"
#include "core/json_schema.h"
#include "core/progress.h"
#include "core/read_file.h"
#include "core/text.h"

namespace excise {
namespace {

// The name under which pictures made elsewhere enter records; they come with --images, not from the
// experiment.
constexpr const char* kPictures = "pictures";
constexpr uint64_t kMostRowBytes = uint64_t{1} << 30;  // of FILE.rows.jsonl

std::string FirstOf(const std::vector<std::string>& problems) {
  return problems.size() == 1 ? problems[0]
                              : fmt::format("{} (and {} more)", problems[0], problems.size() - 1);
}

// "methods.my_esd.folder" among the settings.
bool IsSet(const std::vector<std::string>& settings, const std::string& path) {
  for (const std::string& setting : settings) {
    if (StartsWith(setting, path + "=")) return true;
  }
  return false;
}

// Parameters as an experiment's JSON has them. Of a file of the user a record has the name and the
// digest; where it lies only the user can say.
Json AsGiven(const Json& shown, const std::string& path, const std::string& origin,
             const std::vector<std::string>& settings) {
  Json params = shown;
  const std::string suffix = "_sha256";
  for (const auto& [key, value] : shown.items()) {
    if (!EndsWith(key, suffix)) continue;
    const std::string field = key.substr(0, key.size() - suffix.size());
    if (!shown.contains(field)) continue;
    params.erase(key);
    params.erase(field);
    if (IsSet(settings, path + "." + field)) continue;
    throw Error(fmt::format(
        "{}: was computed from a file of its author, '{}' (SHA-256 {}). Say where yours is: --set "
        "{}.{}=PATH.",
        origin, shown[field].is_string() ? shown[field].get<std::string>() : "", value.dump(), path,
        field));
  }
  return params;
}

struct Kind {
  const char* field;    // of a record
  const char* section;  // of an experiment
};

// {only, params} of the plug-ins of one kind that the records name.
Json SelectionOf(const Json& records, const Kind& kind, const std::string& origin,
                 const std::vector<std::string>& settings) {
  Json selection = {{"only", Json::array()}, {"params", Json::object()}};
  std::set<std::string> seen;
  for (const Json& record : records) {
    const std::string name = record.at(kind.field);
    const Json& params = record.at(std::string(kind.field) + "_params");
    if (name == kUnion || name == kRecovery || params.value("plugin", Json()) == kPictures)
      continue;
    if (!seen.insert(name).second) continue;
    selection["only"].push_back(name);
    selection["params"][name] =
        AsGiven(params, fmt::format("{}.{}", kind.section, name), origin, settings);
  }
  return selection;
}

// "params" of an experiment's `section`, as `data` among the inputs shows them.
void SetDataParams(const Json& data, const std::string& section, const std::string& origin,
                   const std::vector<std::string>& settings, Json* object) {
  Json shown = data.at("params");
  const Json files = data.value("files", Json::object());
  for (const auto& [field, sha256] : files.items()) shown[field + "_sha256"] = sha256;
  const Json given = AsGiven(shown, section + ".params", origin, settings);
  if (!given.empty()) (*object)[section]["params"] = given;
}

void RefuseRepeats(const Json& results, const std::string& origin) {
  std::set<std::string> names;
  for (const Json& record : results.at("records")) {
    if (names.insert(RecordNameOf(record)).second) continue;
    throw Error(fmt::format("{}: the record {} is there twice.", origin, RecordNameOf(record)));
  }
}

// A backbone's name becomes a folder's: one of a hostile file must not lead out of --models.
void RefusePaths(const Json& results, const std::string& origin) {
  const std::string name = results.at("experiment").at("backbone");
  const bool plain = !name.empty() && name[0] != '.' &&
                     std::none_of(name.begin(), name.end(), [](unsigned char c) {
                       return c == '/' || c == '\\' || c < 0x20 || c == 0x7f;
                     });
  if (plain) return;
  throw Error(fmt::format(
      "{}: the backbone '{}' is no name of a folder: no slash, no leading dot and no control "
      "character may be in it. No run writes such a name, so the file was edited.",
      origin, name));
}

}  // namespace

Json ReadResults(const std::filesystem::path& file) {
  Json results = ReadJsonFile(file);
  if (!results.is_object() || !results.contains("schema") || !results.contains("records")) {
    throw Error(fmt::format(
        "{}: not a results file, for it has no schema and records. The table programs write one "
        "with --out=FILE.json.",
        file.string()));
  }
  static const Json schema = ReadJsonFile(DataFile("results/schema.json"));
  const Json& version = schema.at("properties").at("schema").at("const");
  if (results.at("schema") != version) {
    throw Error(fmt::format(
        "{}: /schema is {}, and this version reads {}: another version wrote the file. Run the "
        "experiment again, or use the program of its commit (provenance.commit).",
        file.string(), results.at("schema").dump().substr(0, 40), version.dump()));
  }
  const std::vector<std::string> problems = SchemaProblems(results, schema);
  if (!problems.empty()) {
    throw Error(
        fmt::format("{}: not a results file as this version writes them: {}. It was edited or "
                    "damaged, or another version wrote it (provenance.commit says which).",
                    file.string(), FirstOf(problems)));
  }
  if (results.at("records").empty()) {
    throw Error(fmt::format(
        "{}: its list of records is empty, so it says nothing that could be read or checked. A run "
        "writes at least one record; the file was edited or damaged.",
        file.string()));
  }
  RefuseRepeats(results, file.string());
  RefusePaths(results, file.string());
  return results;
}

std::vector<Json> ReadResultRows(const std::filesystem::path& file) {
  std::filesystem::path rows_file = file;
  rows_file.replace_extension(".rows.jsonl");
  std::error_code missing;
  if (!std::filesystem::exists(rows_file, missing)) {
    throw Error(fmt::format("{} cannot be read. The rows of {} belong beside it: copy both files.",
                            rows_file.string(), file.filename().string()));
  }
  const std::string bytes = ReadFile(rows_file, kMostRowBytes);
  Progress progress("read " + rows_file.filename().string(),
                    std::count(bytes.begin(), bytes.end(), '\n'), "rows");
  std::vector<Json> rows;
  std::set<std::string> names;
  for (size_t start = 0, end = 0; start < bytes.size(); start = end + 1) {
    if (InterruptRequested()) throw Interrupted{};
    end = std::min(bytes.find('\n', start), bytes.size());
    const std::string_view line(bytes.data() + start, end - start);
    const std::string origin = fmt::format("{}, line {}", rows_file.string(), rows.size() + 1);
    rows.push_back(ParseJson(line, origin));
    std::string name;
    try {
      name = RowNameOf(rows.back());
    } catch (const Json::exception&) {
      throw Error(fmt::format(
          "{}: not a row; method, concept, attack, group, root_id and replicate are expected.",
          origin));
    }
    if (!names.insert(name).second) {
      throw Error(fmt::format("{}: the row {} is there twice.", origin, name));
    }
    progress.Advance();
  }
  return rows;
}

std::string RecordNameOf(const Json& record) {
  return fmt::format("{} / {} / {} / {}", record.at("method").get<std::string>(),
                     record.at("concept").get<std::string>(),
                     record.at("attack").get<std::string>(),
                     record.at("metric").get<std::string>());
}

std::string ReplicateOf(const Json& row) {
  std::string replicate = fmt::format("{}", row.at("replicate").get<int64_t>());
  if (row.contains("erase_seed")) {
    replicate += fmt::format("@{}", row.at("erase_seed").get<int64_t>());
  }
  return replicate;
}

std::string RowNameOf(const Json& row) {
  const auto text = [&](const char* key) { return row.at(key).get<std::string>(); };
  return fmt::format("{} / {} / {} / {} / {}#{}", text("method"), text("concept"), text("attack"),
                     text("group"), text("root_id"), ReplicateOf(row));
}

Experiment ExperimentOf(const Json& results, const std::string& origin,
                        const std::vector<std::string>& settings) {
  Json object = results.at("experiment");
  const std::string profile = object.at("profile");
  object.erase("profile");  // its overrides are in already
  const Json& inputs = results.at("inputs");
  SetDataParams(inputs.at("dataset"), "prompts", origin, settings, &object);
  if (inputs.contains("quadruplets")) {
    SetDataParams(inputs.at("quadruplets"), "quadruplets", origin, settings, &object);
  }
  for (const Kind& kind :
       {Kind{"method", "methods"}, Kind{"attack", "attacks"}, Kind{"metric", "metrics"}}) {
    object[kind.section] = SelectionOf(results.at("records"), kind, origin, settings);
  }
  ExperimentChoices choices;
  choices.settings = settings;
  try {
    Experiment experiment = MakeExperiment(object, origin, choices);
    experiment.profile = profile;
    return experiment;
  } catch (const UsageError& error) {
    throw Error(fmt::format("{} cannot be replayed: {}", origin, error.what()));
  }
}

}  // namespace excise
