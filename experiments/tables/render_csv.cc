#include <fmt/format.h>

#include "core/escape.h"
#include "core/text.h"
#include "experiments/tables/render.h"

namespace excise {
namespace {

constexpr const char* kHeader =
    "experiment,profile,backbone,method,method_version,concept,attack,attack_version,metric,"
    "metric_version,group,part,status,reason,value,stderr,ci95_low,ci95_high,n,unit,"
    "higher_is_better,chance,set,eligible,excluded,attacked,scored,bound_low,bound_high,images_per_"
    "prompt,sampler,steps,guidance,"
    "adaptive,form,reference_row\n";

class Line {
 public:
  Line& Add(const std::string& data) {
    if (!text_.empty()) text_ += ',';
    text_ += Escape(data, Format::kCsv);
    if (text_.empty()) text_ = "\"\"";  // so that the comma comes next
    return *this;
  }
  // Shortest text that reads back as the same number.
  Line& Add(double number) { return Add(fmt::format("{}", number)); }
  Line& Add(int64_t number) { return Add(fmt::format("{}", number)); }
  // What JSON holds: text as text, null as nothing.
  Line& AddJson(const Json& object, const char* key) {
    const auto it = object.find(key);
    if (it == object.end() || it->is_null()) return Add(std::string());
    return Add(it->is_string() ? it->get<std::string>() : it->dump());
  }
  std::string Take() { return text_ + "\n"; }

 private:
  std::string text_;
};

// The figures of a record that have a line of their own, beside its value.
std::vector<std::string> FurtherParts(const Record& record) {
  std::vector<std::string> parts;
  if (record.status != "ok") return parts;
  for (const auto& [part, value] : record.score.parts) {
    const bool denominator =
        EndsWith(part, "_n") && record.score.parts.count(part.substr(0, part.size() - 2)) != 0;
    if (!denominator) parts.push_back(part);
  }
  return parts;
}

// Value, standard error, interval and n; nothing where there is none or none can be estimated.
void AddEstimate(const Record& record, const std::string& part, Line* line) {
  const std::string nothing;
  if (record.status != "ok") {
    for (int i = 0; i < 5; ++i) line->Add(nothing);
    return;
  }
  const std::optional<Estimate> estimate = EstimateOf(record, part);
  line->Add(estimate ? estimate->value : record.score.parts.at(part));
  if (part.empty() && estimate && estimate->has_interval) {
    line->Add(record.score.stderr_);
  } else {
    line->Add(nothing);
  }
  if (estimate && estimate->has_interval) {
    line->Add(estimate->low).Add(estimate->high);
  } else {
    line->Add(nothing).Add(nothing);
  }
  if (estimate) {
    line->Add(estimate->n);
  } else {
    line->Add(nothing);
  }
}

std::string LineOf(const Json& experiment, const std::string& backbone, const Record& record,
                   const std::string& part, bool reference) {
  Line line;
  line.Add(experiment.at("name").get<std::string>());
  line.Add(experiment.at("profile").get<std::string>()).Add(backbone);
  line.Add(record.method).Add(int64_t{record.method_version});
  line.Add(record.subject).Add(record.attack).Add(int64_t{record.attack_version});
  line.Add(record.metric).Add(int64_t{record.metric_version}).Add(record.traits.group);
  line.Add(part).Add(record.status).Add(record.reason);
  AddEstimate(record, part, &line);
  line.Add(part.empty() ? record.traits.unit : "");
  line.Add(std::string(!part.empty() ? "" : record.traits.higher_is_better ? "true" : "false"));
  if (part.empty()) {
    line.Add(record.traits.chance);
  } else {
    line.Add(std::string());
  }
  for (const char* key : {"set", "eligible", "excluded", "attacked", "scored"}) {
    line.AddJson(record.denominators, key);
  }
  // Of the value, had all that was left out failed or succeeded.
  const Json bounds = record.denominators.value("bounds", Json::array());
  for (size_t i = 0; i < 2; ++i) {
    if (part.empty() && i < bounds.size()) {
      line.Add(bounds[i].get<double>());
    } else {
      line.Add(std::string());
    }
  }
  for (const char* key :
       {"images_per_prompt", "sampler", "steps", "guidance", "adaptive", "form"}) {
    line.AddJson(record.protocol, key);
  }
  line.Add(std::string(reference ? "true" : "false"));
  return line.Take();
}

}  // namespace

std::string RenderCsv(const Results& results) {
  const TableView view(results);
  const std::string backbone = results.inputs.at("backbone").at("name");
  std::string out = kHeader;
  for (const Record& record : results.records) {
    const bool reference = view.IsReference(record.method);
    out += LineOf(results.experiment, backbone, record, "", reference);
    for (const std::string& part : FurtherParts(record)) {
      out += LineOf(results.experiment, backbone, record, part, reference);
    }
  }
  return out;
}

}  // namespace excise
