#include "experiments/results/read_results.h"

#include <fmt/format.h>

#include "core/error.h"
#include "core/registry.h"
#include "core/text.h"
#include "experiments/results/recovery.h"

namespace excise {
namespace {

template <class T>
void Read(const Json& json, const char* field, T* value) {
  const auto found = json.find(field);
  if (!json.is_object() || found == json.end()) {
    throw Error(fmt::format("/{} is missing", field));
  }
  try {
    found->get_to(*value);
  } catch (const Json::exception&) {
    throw Error(fmt::format("/{} is of another type than a run writes", field));
  }
}

// A field more, or a value that was converted on the way: `again` is what a run would have written.
void RequireExact(const Json& json, const Json& again) {
  if (json == again) return;
  const std::string pointer = Json::diff(again, json).at(0).at("path");
  throw Error(pointer + " is not what a run writes there");
}

// The metric's parameters as its plug-in takes them. Of files of the user a record has the name and
// the digest alone; how a metric is printed cannot hang on them.
Json ParamsOf(const Record& record) {
  Json params = record.metric_params;
  const std::string suffix = "_sha256";
  for (const auto& [key, value] : record.metric_params.items()) {
    if (!EndsWith(key, suffix)) continue;
    params.erase(key);
    params.erase(key.substr(0, key.size() - suffix.size()));
  }
  params.erase("plugin");
  return params;
}

MetricTraits TraitsOf(const Record& record) {
  if (record.metric == kRecovery) return RecoveryTraits();
  std::string plugin = record.metric;
  if (record.metric_params.contains("plugin")) Read(record.metric_params, "plugin", &plugin);
  try {
    const auto metric = Registry<Metric>::Get().Make(plugin);
    DecodeParams(ParamsOf(record), *metric, plugin);
    return metric->traits();
  } catch (const UsageError& error) {
    throw Error(
        fmt::format("/metric is '{}', and how its numbers are printed only its plug-in knows: {}",
                    record.metric, error.what()));
  }
}

Score ReadScore(const Json& json) {
  try {
    return ScoreFromJson(json);
  } catch (const Json::exception& error) {
    throw Error(fmt::format("/value and what belongs to it cannot be read ({})", error.what()));
  } catch (const Error& error) {
    throw Error(fmt::format("/sample_ids: {}", error.what()));
  }
}

// What tables say of a recovery beside its value.
void RequireRecovery(const Record& record) {
  Json floor;
  Read(record.protocol, "floor", &floor);
  if (record.score.parts.count("p") == 0) throw Error("/parts/p is missing");
}

Record RecordFromJson(const Json& json) {
  Record record;
  Read(json, "method", &record.method);
  Read(json, "method_version", &record.method_version);
  Read(json, "method_params", &record.method_params);
  Read(json, "uses", &record.uses);
  Read(json, "concept", &record.subject);
  Read(json, "attack", &record.attack);
  Read(json, "attack_version", &record.attack_version);
  Read(json, "attack_params", &record.attack_params);
  Read(json, "metric", &record.metric);
  Read(json, "metric_version", &record.metric_version);
  Read(json, "metric_params", &record.metric_params);
  Read(json, "status", &record.status);
  Read(json, "reason", &record.reason);
  record.traits = TraitsOf(record);
  Read(json, "unit", &record.traits.unit);
  Read(json, "higher_is_better", &record.traits.higher_is_better);
  Read(json, "chance", &record.traits.chance);
  Read(json, "group", &record.traits.group);
  Read(json, "protocol", &record.protocol);
  Read(json, "denominators", &record.denominators);
  Read(json, "lineage", &record.lineage);
  if (record.status == "ok") record.score = ReadScore(json);
  if (record.status == "ok" && record.metric == kRecovery) RequireRecovery(record);
  RequireExact(json, RecordToJson(record));
  return record;
}

Comparison ComparisonFromJson(const Json& json) {
  if (json.contains("p_holm")) {
    throw Error(
        "/p_holm: an earlier version made the comparisons, adjusted for all pairs of a column. Run "
        "the table again, from its store if that is of this version, to have them anew");
  }
  Comparison c;
  std::pair<double, double> interval;
  Read(json, "metric", &c.metric);
  Read(json, "part", &c.part);
  Read(json, "over", &c.over);
  Read(json, "given", &c.given);
  Read(json, "first", &c.first);
  Read(json, "second", &c.second);
  Read(json, "test", &c.test);
  Read(json, "n", &c.n);
  Read(json, "difference", &c.difference);
  Read(json, "ci95", &interval);
  Read(json, "p", &c.p);
  std::tie(c.low, c.high) = interval;
  if (json.contains("ci90")) {
    Read(json, "ci90", &interval);
    c.ci90 = Interval{interval.first, interval.second};
  }
  RequireExact(json, ComparisonToJson(c));
  return c;
}

// Each entry of the list `field`, with its place before what is wrong with it.
template <class T>
void ReadList(const Json& json, const char* field, T (*read)(const Json&), std::vector<T>* list) {
  Json entries;
  Read(json, field, &entries);
  if (!entries.is_array()) throw Error(fmt::format("/{} is no list", field));
  for (const Json& entry : entries) {
    try {
      list->push_back(read(entry));
    } catch (const Error& error) {
      throw Error(fmt::format("/{}/{}{}", field, list->size(), error.what()));
    }
  }
}

Results ReadWhole(const Json& json) {
  const Json known = ResultsToJson({});
  int64_t schema = 0;
  Read(json, "schema", &schema);
  if (known.at("schema") != schema) {
    throw Error(
        fmt::format("/schema is {}, and this version reads {}", schema, known.at("schema").dump()));
  }
  Results results;
  Read(json, "experiment", &results.experiment);
  Read(json, "inputs", &results.inputs);
  ReadList(json, "records", RecordFromJson, &results.records);
  ReadList(json, "comparisons", ComparisonFromJson, &results.comparisons);
  Read(json, "cost", &results.cost);
  Read(json, "provenance", &results.provenance);
  for (const auto& [field, value] : json.items()) {
    if (!known.contains(field)) throw Error(fmt::format("/{} is unknown", field));
  }
  return results;
}

}  // namespace

Results ResultsFromJson(const Json& json, const std::string& origin) {
  try {
    return ReadWhole(json);
  } catch (const Error& error) {
    throw Error(fmt::format(
        "{}: not results as this version writes them: {}. They were edited or damaged, or another "
        "version wrote them: run the experiment again, or use the program of provenance.commit.",
        origin, error.what()));
  }
}

Row RowFromJson(const Json& json) {
  Row row;
  Read(json, "method", &row.method);
  Read(json, "concept", &row.subject);
  Read(json, "attack", &row.attack);
  Read(json, "group", &row.group);
  Read(json, "prompt_id", &row.prompt_id);
  Read(json, "root_id", &row.root_id);
  Read(json, "prompt", &row.prompt);
  Read(json, "replicate", &row.replicate);
  Read(json, "outcome", &row.outcome);
  Read(json, "class", &row.class_id);
  Read(json, "style", &row.style);
  Read(json, "class_probability", &row.class_probability);
  Read(json, "artifact", &row.artifact);
  if (json.contains("erase_seed")) row.erase_seed.emplace();
  if (row.erase_seed) Read(json, "erase_seed", &*row.erase_seed);
  if (json.contains("truncated")) Read(json, "truncated", &row.truncated);
  if (json.contains("detected")) Read(json, "detected", &row.detected);
  RequireExact(json, RowToJson(row));
  return row;
}

Results LoadResults(const std::filesystem::path& file) {
  Results results = ResultsFromJson(ReadResults(file), file.string());
  std::filesystem::path rows = file;
  rows.replace_extension(".rows.jsonl");
  std::error_code missing;
  if (!std::filesystem::exists(rows, missing)) return results;
  for (const Json& row : ReadResultRows(file)) {
    try {
      results.rows.push_back(RowFromJson(row));
    } catch (const Error& error) {
      throw Error(
          fmt::format("{}, line {}: {}. The file was edited or damaged, or another version "
                      "wrote it: run the experiment again.",
                      rows.string(), results.rows.size() + 1, error.what()));
    }
  }
  return results;
}

}  // namespace excise
