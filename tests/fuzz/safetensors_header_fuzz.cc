// models/formats/safetensors_header.h. Input: the size of the data as a decimal number in the first
// line, then the header. Every accepted tensor lies inside the file, has the bytes that its shape
// and dtype need, and starts where the one before ends.
#include <set>

#include "models/formats/safetensors_header.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace excise;
using fuzz::Require;

void CheckEntry(const SafetensorsEntry& entry, uint64_t expected_begin, uint64_t data_bytes) {
  Require(!entry.name.empty() && entry.name.size() <= 1024, "a name of 1 to 1024 bytes");
  Require(entry.shape.size() <= 8, "at most 8 dimensions");
  Require(entry.begin == expected_begin, "no hole and no overlap");
  Require(entry.begin <= entry.end && entry.end <= data_bytes, "the tensor lies in the file");
  // In 128 bits nothing wraps: each factor is below 2^63 and the running product is stopped.
  unsigned __int128 bytes = SafetensorsElementSize(entry.dtype);
  Require(bytes > 0, "a known dtype");
  for (const int64_t size : entry.shape) {
    Require(size >= 0, "no negative dimension");
    bytes *= static_cast<unsigned __int128>(size);
    Require(bytes <= UINT64_MAX, "the size fits 64 bits");
  }
  Require(bytes == entry.end - entry.begin, "shape and offsets agree");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::Text(data, size);
  const std::string first(fuzz::TakeLine(&text));
  const uint64_t data_bytes = std::strtoull(first.c_str(), nullptr, 10) % (uint64_t{1} << 62);
  const uint64_t file_size = 8 + text.size() + data_bytes;

  // The first line's bytes also stand for a file's first 8, which give the header's length.
  fuzz::Accepts([&] {
    const uint64_t length = SafetensorsHeaderLength(first, file_size, "input");
    Require(length > 0 && length <= kSafetensorsMaxHeader && length <= file_size - 8,
            "the header lies in the file");
  });

  SafetensorsHeader header;
  if (!fuzz::Accepts([&] { header = ParseSafetensorsHeader(text, file_size, "input"); })) return 0;
  Require(header.data_begin == 8 + text.size(), "the data follow the header");
  std::set<std::string> names;
  uint64_t end = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    CheckEntry(entry, end, data_bytes);
    Require(names.insert(entry.name).second, "no name twice");
    end = entry.end;
  }
  Require(end == data_bytes, "the tensors fill the file");
  return 0;
}
