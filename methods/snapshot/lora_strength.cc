#include "methods/snapshot/lora_strength.h"

#include <fmt/format.h>
#include <unicode/regex.h>

#include <cmath>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/escape.h"
#include "core/text.h"

namespace excise {
namespace {

// A pattern from somebody's file, for the end of layers' names as peft means it. ICU bounds how
// long a match takes, and its clock counts steps, so that the same file always fares the same.
class NamePattern {
 public:
  NamePattern(const std::string& text, const std::string& where)
      : name_(fmt::format("{}: alpha_pattern '{}'", where, Shortened(text))) {
    constexpr size_t kMostBytes = 1000;
    if (text.size() > kMostBytes) {
      throw Error(
          fmt::format("{}: {} bytes; at most {} are read.", name_, text.size(), kMostBytes));
    }
    UErrorCode status = U_ZERO_ERROR;
    const icu::UnicodeString whole = icu::UnicodeString::fromUTF8("(.*\\.)?(" + text + ")");
    matcher_ = std::make_unique<icu::RegexMatcher>(whole, 0, status);
    Check(status);
    constexpr int32_t kSteps = 10, kStackBytes = 1 << 20;  // 10: some 100,000 steps
    matcher_->setTimeLimit(kSteps, status);
    matcher_->setStackLimit(kStackBytes, status);
    Check(status);
  }

  bool Matches(const std::string& layer) const {
    UErrorCode status = U_ZERO_ERROR;
    const icu::UnicodeString input = icu::UnicodeString::fromUTF8(layer);
    const bool matches = matcher_->reset(input).matches(status);
    Check(status);
    return matches;
  }

 private:
  void Check(UErrorCode status) const {
    if (U_SUCCESS(status)) return;
    const bool slow = status == U_REGEX_TIME_OUT || status == U_REGEX_STACK_OVERFLOW;
    throw Error(
        fmt::format("{}: {}.", name_,
                    slow ? "takes too long to match; write it without nested repetition"
                         : fmt::format("is no regular expression ({})", u_errorName(status))));
  }

  std::string name_;
  std::unique_ptr<icu::RegexMatcher> matcher_;
};

}  // namespace

// Of a later one that matches is the alpha.
struct LoraStrength::Patterns {
  std::vector<std::pair<NamePattern, double>> list;
};

LoraStrength::LoraStrength(Json config, std::string origin)
    : config_(std::move(config)),
      origin_(std::move(origin)),
      patterns_(std::make_unique<Patterns>()) {
  if (!config_.is_object()) throw Error(fmt::format("{}: expected an object.", origin_));
  const std::string type = Text("peft_type", "LORA"), start = Text("init_lora_weights", "");
  std::string kind;
  if (type != "LORA") kind = "peft_type " + type;
  if (Truth("use_dora")) kind = "DoRA";
  if (Truth("lora_bias")) kind = "lora_bias";
  for (const char* moved : {"pissa", "olora", "corda", "loftq"}) {
    if (StartsWith(start, moved)) kind = "init_lora_weights " + start + ", which moves the base";
  }
  if (!kind.empty()) {
    throw Error(
        fmt::format("{}: {}: not read. Merge the adapter into the model with the software "
                    "that made it, and name the merged folder by the parameter 'folder'.",
                    origin_, kind));
  }
  ReadPatterns();
}

LoraStrength::~LoraStrength() = default;

double LoraStrength::Scale(const std::string& layer, int64_t rank,
                           std::optional<double> alpha) const {
  if (!alpha && config_.contains("lora_alpha")) alpha = Number(config_["lora_alpha"]);
  for (const auto& [pattern, value] : patterns_->list) {
    if (pattern.Matches(layer)) alpha = value;
  }
  const double ranks = static_cast<double>(rank);
  if (!alpha) return 1;
  return *alpha / (Truth("use_rslora") ? std::sqrt(ranks) : ranks);
}

bool LoraStrength::Truth(const char* key) const {
  return config_.contains(key) && config_[key].is_boolean() && config_[key].get<bool>();
}

std::string LoraStrength::Text(const char* key, const std::string& otherwise) const {
  const auto found = config_.find(key);
  return found != config_.end() && found->is_string() ? found->get<std::string>() : otherwise;
}

void LoraStrength::ReadPatterns() {
  const auto found = config_.find("alpha_pattern");
  if (found == config_.end() || !found->is_object()) return;
  constexpr size_t kMost = 2000;  // a model has some hundred layers
  if (found->size() > kMost) {
    throw Error(fmt::format("{}: alpha_pattern has {} entries; at most {} are read.", origin_,
                            found->size(), kMost));
  }
  for (const auto& [key, value] : found->items()) {
    patterns_->list.emplace_back(NamePattern(key, origin_), Number(value));
  }
}

double LoraStrength::Number(const Json& value) const {
  if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
  throw Error(fmt::format("{}: alpha {} is no number.", origin_, value.dump()));
}

}  // namespace excise
