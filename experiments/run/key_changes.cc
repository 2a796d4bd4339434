#include "experiments/run/key_changes.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/escape.h"
#include "core/plural.h"

namespace excise {
namespace {

using Parts = std::vector<std::string>;

// "/inputs/files/lora" -> {"inputs", "files", "lora"}.
Parts PartsOfPointer(const std::string& pointer) {
  Parts parts;
  for (Json::json_pointer rest(pointer); !rest.empty(); rest.pop_back()) {
    parts.insert(parts.begin(), rest.back());
  }
  return parts;
}

// What an entry of "inputs" is.
const std::map<std::string, std::string>& Inputs() {
  static const std::map<std::string, std::string> words = {
      {"backbone", "the weights of the backbone"},
      {"folder", "the weights that the method loads itself"},
      {"surrogate", "the weights of the surrogate encoder"},
      {"oracle", "the weights of the judge that attacks may ask"},
      {"judge", "the weights of the reporting judge"},
      {"reference_clip", "the weights of the reference CLIP"},
      {"base_clip", "the weights of the backbone's own CLIP"},
      {"independent_clip", "the weights of the independent CLIP"},
      {"judged", "what the oracle looks for"},
      {"erased", "the removal that it rests on"},
      {"unit", "the pictures that are judged"},
      {"units", "the pictures that are scored, or what the judge says of them"},
      {"base_units", "the pictures that they are compared with"},
      {"prompts", "the prompts"},
      {"prompt", "the prompt"},
      {"pictures", "the pictures that were made elsewhere"},
      {"quadruplets", "the quadruplets"},
      {"items", "the quadruplets that are embedded"},
      {"concept", "the concept's file"}};
  return words;
}

// What stands at the pointer, and whose settings "params" are.
std::string Subject(const Parts& parts, const std::string& stage) {
  const std::string last = parts.empty() ? "the key" : parts.back();
  const auto at = [&](size_t i) { return i < parts.size() ? parts[i] : std::string(); };
  if (at(0) == "version") return "the plug-in's version";
  if (at(0) == "numerics") return fmt::format("how this machine computes ({})", last);
  if (at(0) == "seeds") return at(1) == "replicate" ? "the replicate" : "seeds." + last;
  if (at(0) == "params") {
    const bool drawn = stage == "generate" || stage == "reference" || stage == "retained";
    return (drawn ? "sampler." : "the setting ") + last;
  }
  if (at(0) != "inputs" || parts.size() == 1) return last;
  if (at(1) == "files") return fmt::format("the content of the file that '{}' names", last);
  if (at(1) == "sampler") return "sampler." + last;
  // A concept's fields, wherever it stands: {"concepts": [{"anchor": ...}]}.
  for (size_t i = 1; i + 1 < parts.size(); ++i) {
    const bool listed = parts[i] == "concepts";
    if (!listed && parts[i] != "concept") continue;
    return fmt::format("{} ({})", Inputs().at("concept"), at(i + (listed ? 2 : 1)));
  }
  const auto known = Inputs().find(at(1) == "models" ? last : at(1));
  if (known == Inputs().end()) return at(1);
  // A list is one thing; of an object each field is named.
  const bool list = std::any_of(parts.begin() + 2, parts.end(), [](const std::string& part) {
    return part.find_first_not_of("0123456789") == std::string::npos;
  });
  if (at(1) == "models") return known->second;
  return list || parts.size() == 2 ? known->second : fmt::format("{}'s {}", known->second, last);
}

bool IsHash(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string Short(const Json& value) {
  if (value.is_null()) return "none";
  if (!value.is_string()) return Shortened(value.dump(), 40);
  const std::string text = value;
  return IsHash(text) ? text.substr(0, 8) : "'" + Shortened(text, 40) + "'";
}

}  // namespace

std::vector<std::string> KeyChanges(const Json& before, const Json& now) {
  const std::string stage = now.value("stage", "");
  const Json a = before.flatten(), b = now.flatten();
  Parts order;                                                     // what changed, as it is met
  std::map<std::string, std::pair<std::string, int64_t>> changes;  // the first one, and how many
  const auto add = [&](const std::string& pointer, const Json& was, const Json& is) {
    const std::string subject = Subject(PartsOfPointer(pointer), stage);
    auto& [first, count] = changes[subject];
    if (count++ > 0) return;
    order.push_back(subject);
    first = fmt::format("{} before, {} now", Short(was), Short(is));
  };
  for (const auto& [pointer, value] : a.items()) {
    const auto found = b.find(pointer);
    const Json is = found == b.end() ? Json() : *found;
    if (is.dump() != value.dump()) add(pointer, value, is);  // 1 and 1.0 are different keys
  }
  for (const auto& [pointer, value] : b.items()) {
    if (!a.contains(pointer)) add(pointer, Json(), value);
  }
  std::vector<std::string> lines;
  for (const std::string& subject : order) {
    const auto& [first, count] = changes.at(subject);
    const std::string more =
        count > 1 ? fmt::format(" (and {})", Plural(count - 1, "further difference")) : "";
    lines.push_back(Escape(subject + ": " + first + more, Format::kTerminal));
  }
  return lines;
}

}  // namespace excise
