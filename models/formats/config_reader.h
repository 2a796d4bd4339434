// Strict reading of Hugging Face config.json files: what a model here cannot do is refused by name,
// so that a checkpoint of another architecture never runs as if it were a known one.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace excise {

// A missing key or null takes the fallback. Every message opens with `origin` and names the key.
class ConfigReader {
 public:
  // Keeps products of a few sizes far from overflow.
  static constexpr int64_t kMost = 100'000'000;
  // Throws Error unless `config` is an object. `config` must outlive the reader.
  ConfigReader(const Json& config, std::string_view origin);

  bool Has(const std::string& key) const;  // present and not null
  // What is counted, not multiplied, needs a `high` of its own: a loop of 1e8 layers never ends.
  int64_t Int(const std::string& key, int64_t fallback, int64_t low = 1, int64_t high = kMost);
  double Real(const std::string& key, double fallback);
  bool Bool(const std::string& key, bool fallback);
  std::string Text(const std::string& key, std::string fallback);
  // One of `choices`, or Error listing them.
  std::string Choice(const std::string& key, std::string fallback,
                     const std::vector<std::string>& choices);
  // At most 64 entries.
  std::vector<int64_t> Ints(const std::string& key, std::vector<int64_t> fallback);
  std::vector<std::string> Texts(const std::string& key, std::vector<std::string> fallback);
  // An integer, or a list whose entries are all equal (diffusers allows one entry a level).
  int64_t IntOrUniform(const std::string& key, int64_t fallback, int64_t low = 1,
                       int64_t high = kMost);

  // `key` may be missing, null or equal to `supported`; anything else is an Error.
  void Only(const std::string& key, const Json& supported);
  // Known, and without influence here.
  void Ignore(const std::string& key) { read_.insert(key); }
  // Throws Error for keys that nobody read, except null ones and those that start with "_".
  void Finish() const;

  [[noreturn]] void Fail(const std::string& key, const std::string& what) const;

 private:
  const Json* Find(const std::string& key);

  const Json& config_;
  std::string origin_;
  std::set<std::string> read_;
};

}  // namespace excise
