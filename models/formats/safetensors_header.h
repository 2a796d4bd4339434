// The header of a safetensors file, without tensors: bytes in, checked entries out, so that hostile
// files can be fuzzed without LibTorch. Format: huggingface/safetensors, README and tensor.rs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace excise {

class RegularFile;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;            // "F32", "BF16", ...
  std::vector<int64_t> shape;   // at most 8 dimensions; empty for a scalar
  uint64_t begin = 0, end = 0;  // bytes, relative to the header's `data_begin`
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of their data, without holes or overlaps
  std::map<std::string, std::string> metadata;
  uint64_t data_begin = 0;  // of the file
};

inline constexpr uint64_t kSafetensorsMaxHeader = 100'000'000;

// Bytes of one element; 0 for a dtype that is not known or has no whole number of bytes.
uint64_t SafetensorsElementSize(std::string_view dtype);

// Length N of the JSON header from the file's first 8 bytes. Throws Error when N is 0, above 1e8 or
// beyond the end of the file.
uint64_t SafetensorsHeaderLength(std::string_view first_bytes, uint64_t file_size,
                                 std::string_view origin);

// Parses the N bytes after the length. Throws Error naming `origin` and the tensor: malformed JSON,
// duplicate or bad names, unknown dtype, wrong sizes, overflow, holes, overlaps, trailing bytes.
SafetensorsHeader ParseSafetensorsHeader(std::string_view header, uint64_t file_size,
                                         std::string_view origin);

// The header of `file`, which was opened as `path`. Throws Error as the two above do.
SafetensorsHeader ReadSafetensorsHeader(const RegularFile& file, const std::filesystem::path& path);

}  // namespace excise
