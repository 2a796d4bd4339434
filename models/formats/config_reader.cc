#include "models/formats/config_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/text.h"

namespace excise {
namespace {

constexpr size_t kMostEntries = 64, kMostShown = 200;

}  // namespace

ConfigReader::ConfigReader(const Json& config, std::string_view origin)
    : config_(config), origin_(origin) {
  if (!config.is_object()) {
    throw Error(fmt::format("{}: a model's configuration must be a JSON object, this is {}.",
                            origin_, config.type_name()));
  }
}

void ConfigReader::Fail(const std::string& key, const std::string& what) const {
  const auto found = config_.find(key);
  std::string value = found == config_.end()
                          ? "missing"
                          : found->dump(-1, ' ', false, Json::error_handler_t::replace);
  if (value.size() > kMostShown) value = value.substr(0, kMostShown) + "...";
  throw Error(fmt::format("{}: \"{}\" is {}: {}.", origin_, key, value, what));
}

const Json* ConfigReader::Find(const std::string& key) {
  read_.insert(key);
  const auto found = config_.find(key);
  return found == config_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::Has(const std::string& key) const {
  const auto found = config_.find(key);
  return found != config_.end() && !found->is_null();
}

int64_t ConfigReader::Int(const std::string& key, int64_t fallback, int64_t low, int64_t high) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number_integer()) Fail(key, "an integer is expected");
  const auto number = value->get<int64_t>();
  if (number < low || number > high) {
    Fail(key, fmt::format("an integer in [{}, {}] is expected", low, high));
  }
  return number;
}

double ConfigReader::Real(const std::string& key, double fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) Fail(key, "a number is expected");
  return value->get<double>();
}

bool ConfigReader::Bool(const std::string& key, bool fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) Fail(key, "true or false is expected");
  return value->get<bool>();
}

std::string ConfigReader::Text(const std::string& key, std::string fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) Fail(key, "a string is expected");
  return value->get<std::string>();
}

std::string ConfigReader::Choice(const std::string& key, std::string fallback,
                                 const std::vector<std::string>& choices) {
  std::string value = Text(key, std::move(fallback));
  if (!IsOneOf(value, choices)) {
    Fail(key, fmt::format("not supported; supported: {}", fmt::join(choices, ", ")));
  }
  return value;
}

std::vector<int64_t> ConfigReader::Ints(const std::string& key, std::vector<int64_t> fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_array() || value->empty()) Fail(key, "a list of integers is expected");
  if (value->size() > kMostEntries) Fail(key, "a list of so many entries is not supported");
  std::vector<int64_t> numbers;
  for (const Json& entry : *value) {
    if (!entry.is_number_integer()) Fail(key, "a list of integers is expected");
    numbers.push_back(entry.get<int64_t>());
    if (numbers.back() < 1 || numbers.back() > kMost) {
      Fail(key, fmt::format("entries in [1, {}] are expected", kMost));
    }
  }
  return numbers;
}

std::vector<std::string> ConfigReader::Texts(const std::string& key,
                                             std::vector<std::string> fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_array() || value->empty()) Fail(key, "a list of strings is expected");
  std::vector<std::string> texts;
  for (const Json& entry : *value) {
    if (!entry.is_string()) Fail(key, "a list of strings is expected");
    texts.push_back(entry.get<std::string>());
  }
  return texts;
}

int64_t ConfigReader::IntOrUniform(const std::string& key, int64_t fallback, int64_t low,
                                   int64_t high) {
  const Json* value = Find(key);
  if (value == nullptr || !value->is_array()) return Int(key, fallback, low, high);
  const std::vector<int64_t> numbers = Ints(key, {});
  for (const int64_t number : numbers) {
    if (number != numbers.front()) Fail(key, "different values per level are not supported");
    if (number < low || number > high) {
      Fail(key, fmt::format("entries in [{}, {}] are expected", low, high));
    }
  }
  return numbers.front();
}

void ConfigReader::Only(const std::string& key, const Json& supported) {
  const Json* value = Find(key);
  if (value == nullptr || *value == supported) return;
  Fail(key, supported.is_null() ? std::string("not supported; only null is")
                                : "not supported; only " + supported.dump() + " is");
}

void ConfigReader::Finish() const {
  for (const auto& [key, value] : config_.items()) {
    if (read_.count(key) != 0 || value.is_null() || key.empty() || key[0] == '_') continue;
    Fail(key,
         "unknown key; it may change the architecture, so it is not skipped silently. Remove "
         "it if it has no meaning for this model");
  }
}

}  // namespace excise
