// Strict JSON: one parser with file and line in its errors, one canonical form for hashing.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

// Compiled once (json.cc), not in each of 200 files.
extern template class nlohmann::basic_json<>;

namespace excise {

// Keys are kept sorted (std::map), so equal values have equal dumps.
using Json = nlohmann::json;

// Parses `text`. Refuses duplicate keys, trailing bytes, nesting deeper than 64, comments and
// invalid UTF-8. `origin` (a path or a flag) opens every message. Throws Error.
Json ParseJson(std::string_view text, std::string_view origin);

// Reads and parses a file. Throws Error naming the path (missing, unreadable, a folder, malformed).
Json ReadJsonFile(const std::filesystem::path& path);

// The form that is hashed and compared: sorted keys, no spaces, shortest round-trip numbers.
// Throws Error if a number is not finite (JSON cannot hold it).
std::string CanonicalJson(const Json& value);

}  // namespace excise
