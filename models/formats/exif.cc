#include "models/formats/exif.h"

#include <cstddef>
#include <cstdint>

namespace excise {
namespace {

constexpr uint32_t kOrientation = 0x0112, kShort = 3;
constexpr size_t kEntry = 12;  // bytes: tag, type, count, value

class TiffReader {
 public:
  explicit TiffReader(std::string_view bytes)
      : bytes_(bytes), little_(bytes.substr(0, 2) == "II") {}

  // `size` bytes at `at`; 0 beyond the end.
  uint32_t Number(uint64_t at, unsigned size) const {
    if (at + size > bytes_.size()) return 0;
    uint32_t value = 0;
    for (unsigned i = 0; i < size; ++i) {
      value = value << 8 | static_cast<unsigned char>(bytes_[at + (little_ ? size - 1 - i : i)]);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool little_;
};

}  // namespace

int ExifOrientation(std::string_view tiff) {
  if (tiff.substr(0, 2) != "II" && tiff.substr(0, 2) != "MM") return 1;
  const TiffReader reader(tiff);
  if (reader.Number(2, 2) != 42) return 1;
  const uint64_t list = reader.Number(4, 4);
  const uint32_t entries = reader.Number(list, 2);
  for (uint32_t i = 0; i < entries; ++i) {
    const uint64_t entry = list + 2 + i * kEntry;
    if (reader.Number(entry, 2) != kOrientation) continue;
    const uint32_t value = reader.Number(entry + 8, 2);
    const bool known = reader.Number(entry + 2, 2) == kShort && value >= 1 && value <= 8;
    return known ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace excise
