#include "models/formats/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/read_file.h"

namespace excise {
namespace {

constexpr size_t kMaxRank = 8;
constexpr size_t kMaxName = 1024;
constexpr uint64_t kLengthBytes = 8;

[[noreturn]] void Fail(std::string_view origin, const std::string& what) {
  throw Error(
      fmt::format("{}: {}. The file is damaged or not safetensors; fetch it again.", origin, what));
}

bool GoodName(const std::string& name) {
  if (name.empty() || name.size() > kMaxName) return false;
  return std::none_of(name.begin(), name.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

uint64_t Unsigned(const Json& value, std::string_view origin, const std::string& name,
                  const char* what) {
  // The parser gives every integer >= 0 this type; negative, fractional and text values fail here.
  if (!value.is_number_unsigned()) {
    Fail(origin, fmt::format("tensor '{}': {} is not an unsigned integer", name, what));
  }
  return value.get<uint64_t>();
}

SafetensorsEntry ParseEntry(const std::string& name, const Json& json, std::string_view origin) {
  auto fail = [&](const std::string& what) {
    Fail(origin, fmt::format("tensor '{}': {}", name, what));
  };
  if (!json.is_object()) fail("its entry is not an object");
  for (const auto& item : json.items()) {
    if (item.key() != "dtype" && item.key() != "shape" && item.key() != "data_offsets") {
      fail("its entry has an unknown key");
    }
  }
  auto dtype = json.find("dtype"), shape = json.find("shape"), offsets = json.find("data_offsets");
  if (dtype == json.end() || !dtype->is_string()) fail("no dtype");
  if (shape == json.end() || !shape->is_array()) fail("no shape");
  if (offsets == json.end() || !offsets->is_array() || offsets->size() != 2) {
    fail("data_offsets is not a pair");
  }
  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = dtype->get<std::string>();
  uint64_t bytes = SafetensorsElementSize(entry.dtype);
  if (bytes == 0) fail("its dtype is unknown or not supported");
  if (shape->size() > kMaxRank) fail(fmt::format("more than {} dimensions", kMaxRank));
  for (const Json& item : *shape) {
    const uint64_t size = Unsigned(item, origin, name, "a dimension");
    if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
        __builtin_mul_overflow(bytes, size, &bytes)) {
      fail("its shape overflows");
    }
    entry.shape.push_back(static_cast<int64_t>(size));
  }
  entry.begin = Unsigned((*offsets)[0], origin, name, "an offset");
  entry.end = Unsigned((*offsets)[1], origin, name, "an offset");
  if (entry.begin > entry.end) fail("its data ends before it begins");
  if (entry.end - entry.begin != bytes) {
    fail(fmt::format("shape and dtype need {} bytes, the offsets give {}", bytes,
                     entry.end - entry.begin));
  }
  return entry;
}

}  // namespace

uint64_t SafetensorsElementSize(std::string_view dtype) {
  static constexpr std::pair<std::string_view, uint64_t> kSizes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
      {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
      {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8}};
  for (const auto& [name, size] : kSizes) {
    if (name == dtype) return size;
  }
  return 0;
}

uint64_t SafetensorsHeaderLength(std::string_view first_bytes, uint64_t file_size,
                                 std::string_view origin) {
  if (first_bytes.size() < kLengthBytes || file_size < kLengthBytes) {
    Fail(origin, fmt::format("only {} bytes long", file_size));
  }
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) {
    length = length << 8 | static_cast<unsigned char>(first_bytes[i]);
  }
  if (length == 0 || length > kSafetensorsMaxHeader) {
    Fail(origin, fmt::format("a header of {} bytes is out of range (at most {})", length,
                             kSafetensorsMaxHeader));
  }
  if (length > file_size - kLengthBytes) {
    Fail(origin, fmt::format("truncated: the header needs {} bytes, the file has {}",
                             length + kLengthBytes, file_size));
  }
  return length;
}

SafetensorsHeader ParseSafetensorsHeader(std::string_view header, uint64_t file_size,
                                         std::string_view origin) {
  if (header.empty() || header.front() != '{') Fail(origin, "the header does not start with '{'");
  if (file_size < kLengthBytes + header.size()) Fail(origin, "truncated within the header");
  const Json json = ParseJson(header, origin);
  SafetensorsHeader result;
  result.data_begin = kLengthBytes + header.size();
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) Fail(origin, "__metadata__ is not an object");
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) Fail(origin, "__metadata__ holds a value that is not a string");
        result.metadata[key] = text.get<std::string>();
      }
      continue;
    }
    if (!GoodName(name)) {
      Fail(origin, "a tensor's name is empty, too long or holds control characters");
    }
    result.entries.push_back(ParseEntry(name, value, origin));
  }
  std::sort(result.entries.begin(), result.entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  uint64_t expected = 0;
  for (const SafetensorsEntry& entry : result.entries) {
    if (entry.begin != expected) {
      Fail(origin, fmt::format("tensor '{}': its data begins at byte {}, not at {} where the one "
                               "before ends (a hole or an overlap)",
                               entry.name, entry.begin, expected));
    }
    expected = entry.end;
  }
  const uint64_t available = file_size - result.data_begin;
  if (expected != available) {
    Fail(origin,
         fmt::format("{}: the tensors need {} bytes of data, the file has {}",
                     expected > available ? "truncated" : "trailing bytes", expected, available));
  }
  return result;
}

SafetensorsHeader ReadSafetensorsHeader(const RegularFile& file,
                                        const std::filesystem::path& path) {
  const std::string first = file.ReadAt(0, std::min<uint64_t>(kLengthBytes, file.size()));
  const uint64_t length = SafetensorsHeaderLength(first, file.size(), path.string());
  return ParseSafetensorsHeader(file.ReadAt(kLengthBytes, length), file.size(), path.string());
}

}  // namespace excise
