#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <initializer_list>

#include "core/escape.h"
#include "core/text.h"
#include "experiments/tables/render.h"

namespace excise {
namespace {

constexpr const char* kHeader =
    "table,profile,backbone,method,attack,concept,metric,part,value,low,high,stderr,n,unit,"
    "higher_is_better,chance,group,status,reason,reference_row,adaptive,set,eligible,excluded,"
    "attacked,scored,missing,bound_low,bound_high,images_per_prompt,sampler,steps,guidance,"
    "edits,concepts_low,concepts_high,budget_per,most_gradient_steps,most_victim_queries,"
    "most_candidate_evaluations,spent_gradient_steps,spent_victim_queries,"
    "spent_candidate_evaluations,spent_unet_evaluations\n";

class Line {
 public:
  Line& Add(const std::string& text) {
    fields_.push_back(Escape(text, Format::kCsv));
    return *this;
  }
  // The shortest plain decimal, without an exponent, that reads back as the same number.
  Line& Add(double number) {
    if (!std::isfinite(number)) return Add(std::string());
    char text[400];  // the largest number has 309 digits, the smallest 324 zeros and a few digits
    const auto end = std::to_chars(text, text + sizeof text, number, std::chars_format::fixed).ptr;
    return Add(std::string(text, end));
  }
  Line& Add(int64_t number) { return Add(fmt::format("{}", number)); }
  Line& Add(bool truth) { return Add(std::string(truth ? "true" : "false")); }
  template <class T>
  Line& Add(const std::optional<T>& value) {
    return value ? Add(*value) : Add(std::string());
  }
  // What JSON holds: text as text, null as nothing.
  Line& AddJson(const Json& object, const char* key) {
    const auto it = object.find(key);
    if (it == object.end() || it->is_null()) return Add(std::string());
    if (it->is_number_float()) return Add(it->get<double>());
    return Add(it->is_string() ? it->get<std::string>() : it->dump());
  }
  std::string Text() const { return fmt::format("{}\n", fmt::join(fields_, ",")); }

 private:
  std::vector<std::string> fields_;
};

// One number of a record, with what is said of it alone.
struct Value {
  std::string part;  // "": the record's own value
  std::optional<double> value, low, high, stderr_;
  std::optional<int64_t> n;
  std::optional<double> concepts_low = {}, concepts_high = {};  // over concepts, prompts and edits
};

void SetOverConcepts(const Record& record, Value* value) {
  const std::optional<Estimate> over = OverConcepts(record, value->part);
  if (!over) return;
  value->concepts_low = over->low;
  value->concepts_high = over->high;
}

// Whether a part says something of another one: its count or an end of its interval.
bool BelongsToAnother(const std::map<std::string, double>& parts, const std::string& part) {
  for (const std::string end : {"_n", "_low", "_high"}) {
    if (!EndsWith(part, end)) continue;
    if (parts.count(part.substr(0, part.size() - end.size())) != 0) return true;
  }
  return false;
}

Value ValueOfPart(const Record& record, const std::string& part) {
  const std::map<std::string, double>& parts = record.score.parts;
  const auto find = [&](const char* end) -> std::optional<double> {
    const auto found = parts.find(part + end);
    return found == parts.end() ? std::nullopt : std::optional<double>(found->second);
  };
  Value value{part, parts.at(part), find("_low"), find("_high"), {}, {}};
  if (const std::optional<double> n = find("_n")) value.n = static_cast<int64_t>(*n);
  const std::optional<Estimate> estimate = EstimateOf(record, part);
  if (estimate && estimate->has_interval) {
    value.low = estimate->low;
    value.high = estimate->high;
  }
  SetOverConcepts(record, &value);
  return value;
}

// The record's own value, then its parts. A record without a value has one all the same, which says
// why.
std::vector<Value> ValuesOf(const Record& record) {
  if (record.status != "ok") return {Value{}};
  const Score& score = record.score;
  std::vector<Value> values = {{"", score.value, {}, {}, {}, score.n}};
  SetOverConcepts(record, &values[0]);
  if (EstimateOf(record, "")->has_interval) {
    values[0].low = score.low;
    values[0].high = score.high;
    values[0].stderr_ = score.stderr_;
  }
  for (const auto& [part, ignored] : score.parts) {
    if (!BelongsToAnother(score.parts, part)) values.push_back(ValueOfPart(record, part));
  }
  return values;
}

// What the attack may spend on a prompt or concept, and what it spent.
void AddBudget(const Record& record, Line* line) {
  const Json budget = record.protocol.value("budget", Json::object());
  line->AddJson(budget, "per");
  const auto add = [&](const char* which, std::initializer_list<const char*> kinds) {
    const Json amounts = budget.value(which, Json::object());
    for (const char* kind : kinds) line->AddJson(amounts, kind);
  };
  add("most", {"gradient_steps", "victim_queries", "candidate_evaluations"});
  add("spent", {"gradient_steps", "victim_queries", "candidate_evaluations", "unet_evaluations"});
}

std::string LineOf(const Results& results, const Record& record, const Value& value,
                   bool reference) {
  const bool own = value.part.empty();
  const std::optional<double> nothing;
  Line line;
  line.AddJson(results.experiment, "name").AddJson(results.experiment, "profile");
  line.AddJson(results.inputs.at("backbone"), "name").Add(record.method).Add(record.attack);
  line.Add(record.subject == kAllConcepts ? "all" : record.subject);
  line.Add(own ? record.metric : record.metric + "_parts").Add(value.part);
  line.Add(value.value).Add(value.low).Add(value.high).Add(value.stderr_).Add(value.n);
  // Parts have units of their own, which nobody tells.
  line.Add(own ? record.traits.unit : "");
  line.Add(own ? std::optional<bool>(record.traits.higher_is_better) : std::nullopt);
  line.Add(own ? std::optional<double>(record.traits.chance) : nothing);
  line.Add(record.traits.group).Add(record.status).Add(record.reason).Add(reference);
  line.AddJson(record.protocol, "adaptive");
  for (const char* key : {"set", "eligible", "excluded", "attacked", "scored", "missing"}) {
    line.AddJson(record.denominators, key);
  }
  const Json bounds = record.denominators.value("bounds", Json::array());
  for (const size_t i : {0, 1}) {
    line.Add(own && i < bounds.size() ? bounds[i].get<double>() : nothing);
  }
  for (const char* key : {"images_per_prompt", "sampler", "steps", "guidance"}) {
    line.AddJson(record.protocol, key);
  }
  line.AddJson(record.denominators, "edits").Add(value.concepts_low).Add(value.concepts_high);
  AddBudget(record, &line);
  return line.Text();
}

}  // namespace

std::string RenderCsv(const Results& results) {
  const TableView view(results);
  std::string out = kHeader;
  for (const Record& record : results.records) {
    const bool reference = view.IsReference(record.method);
    for (const Value& value : ValuesOf(record)) out += LineOf(results, record, value, reference);
  }
  return out;
}

}  // namespace excise
