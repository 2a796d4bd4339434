#include "core/json_schema.h"

#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include "core/error.h"

namespace excise {
namespace {

// std::regex recurses once a character, so that a long text would end the process. What a pattern
// describes (a name, a digest, a time) is short.
constexpr size_t kLongestMatched = 1000;

bool Matches(const std::string& text, const std::string& pattern) {
  if (text.size() > kLongestMatched) return false;
  thread_local std::map<std::string, std::regex> compiled;
  const auto [it, first] = compiled.try_emplace(pattern);
  if (first) it->second = std::regex(pattern);
  return std::regex_search(text, it->second);
}

// A hostile value may be as long as its file.
std::string Shortened(const Json& value) {
  const std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  return text.size() <= 200 ? text : text.substr(0, 197) + "...";
}

class Validator {
 public:
  explicit Validator(const Json& root) : root_(root) {}

  void Check(const Json& value, const Json& schema, const std::string& where) {
    if (schema.contains("$ref")) {
      const std::string ref = schema.at("$ref");
      Check(value, root_.at(Json::json_pointer(ref.substr(1))), where);
    }
    for (const auto& [keyword, rule] : schema.items()) CheckKeyword(value, keyword, rule, where);
    if (schema.contains("if") && Holds(value, schema.at("if"))) {
      Check(value, schema.at("then"), where);
    }
    if (value.is_object()) CheckProperties(value, schema, where);
  }

  std::vector<std::string> problems;

 private:
  bool Holds(const Json& value, const Json& schema) {
    Validator other(root_);
    other.Check(value, schema, "");
    return other.problems.empty();
  }

  void Report(const std::string& where, const std::string& what) {
    problems.push_back((where.empty() ? "/" : where) + ": " + what);
  }

  static bool HasType(const Json& value, const std::string& type) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    throw Error("schema: unknown type '" + type + "'");
  }

  void CheckKeyword(const Json& value, const std::string& keyword, const Json& rule,
                    const std::string& where) {
    static const std::set<std::string> elsewhere = {
        "$ref",  "$defs",       "$schema",    "$id",
        "title", "description", "properties", "additionalProperties",
        "if",    "then"};
    if (elsewhere.count(keyword) != 0) return;
    if (keyword == "type") {
      bool good = false;
      for (const Json& type : rule.is_array() ? rule : Json::array({rule})) {
        good = good || HasType(value, type);
      }
      if (!good) Report(where, "is not of type " + rule.dump());
    } else if (keyword == "enum") {
      if (std::find(rule.begin(), rule.end(), value) == rule.end()) {
        Report(where, Shortened(value) + " is not one of " + rule.dump());
      }
    } else if (keyword == "const") {
      if (value != rule) Report(where, Shortened(value) + " is not " + rule.dump());
    } else if (keyword == "required") {
      for (const Json& name : rule) {
        if (value.is_object() && !value.contains(name.get<std::string>())) {
          Report(where, "lacks " + name.get<std::string>());
        }
      }
    } else if (keyword == "items") {
      for (size_t i = 0; value.is_array() && i < value.size(); ++i) {
        Check(value[i], rule, where + "/" + std::to_string(i));
      }
    } else {
      CheckLimit(value, keyword, rule, where);
    }
  }

  void CheckLimit(const Json& value, const std::string& keyword, const Json& rule,
                  const std::string& where) {
    bool good = true;
    if (keyword == "minItems") {
      good = !value.is_array() || value.size() >= rule.get<size_t>();
    } else if (keyword == "maxItems") {
      good = !value.is_array() || value.size() <= rule.get<size_t>();
    } else if (keyword == "minimum") {
      good = !value.is_number() || value.get<double>() >= rule.get<double>();
    } else if (keyword == "maximum") {
      good = !value.is_number() || value.get<double>() <= rule.get<double>();
    } else if (keyword == "minLength") {
      good = !value.is_string() || value.get<std::string>().size() >= rule.get<size_t>();
    } else if (keyword == "pattern") {
      good = !value.is_string() || Matches(value.get<std::string>(), rule.get<std::string>());
    } else {
      throw Error("schema: keyword '" + keyword + "' is not known to the tests' validator");
    }
    if (!good) Report(where, Shortened(value) + " breaks " + keyword + " " + rule.dump());
  }

  void CheckProperties(const Json& value, const Json& schema, const std::string& where) {
    const Json properties = schema.value("properties", Json::object());
    for (const auto& [name, item] : value.items()) {
      const std::string place = where + "/" + name;
      if (properties.contains(name)) {
        Check(item, properties.at(name), place);
      } else if (schema.contains("additionalProperties")) {
        const Json& rule = schema.at("additionalProperties");
        if (rule == Json(false)) {
          Report(place, "is not known");
        } else if (rule.is_object()) {
          Check(item, rule, place);
        }
      }
    }
  }

  const Json& root_;
};

}  // namespace

std::vector<std::string> SchemaProblems(const Json& value, const Json& schema) {
  Validator validator(schema);
  validator.Check(value, schema, "");
  return validator.problems;
}

}  // namespace excise
