// Arrays saved by numpy (format 1.0 to 3.0, see numpy.lib.format): float32, little endian, C order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace excise {

struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// Nothing is unpickled; any other type, order or size of the data is an Error naming `origin`.
NpyArray ParseNpy(std::string_view bytes, std::string_view origin);
// Reads at most `most_bytes`, and nothing of a longer file. Throws Error.
NpyArray ReadNpy(const std::filesystem::path& file, int64_t most_bytes);

}  // namespace excise
