// core/npy.h: what is accepted holds as many values as its shape says, all of the file's last
// bytes.
#include <cstring>

#include "core/npy.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace excise;
  const std::string_view text = fuzz::Text(data, size);
  NpyArray array;
  if (!fuzz::Accepts([&] { array = ParseNpy(text, "input"); })) return 0;
  unsigned __int128 count = 1;
  for (const int64_t length : array.shape) {
    fuzz::Require(length >= 0, "no negative dimension");
    count *= static_cast<unsigned __int128>(length);
    fuzz::Require(count <= size, "no more values than bytes");
  }
  fuzz::Require(count == array.values.size(), "as many values as the shape says");
  const size_t bytes = array.values.size() * sizeof(float);
  fuzz::Require(bytes < size, "the values lie behind the header");
  fuzz::Require(bytes == 0 || std::memcmp(array.values.data(), data + size - bytes, bytes) == 0,
                "the values are the file's last bytes");
  return 0;
}
