#include "models/pictures/image_io.h"

#include <fmt/format.h>
#include <png.h>

#include <cstring>

#include "core/error.h"
#include "core/files.h"

namespace excise {
namespace {

constexpr png_uint_32 kMaxSide = 16384;

// Frees what libpng allocated, whichever way a function is left.
struct Png {
  Png() {
    std::memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
  }
  ~Png() { png_image_free(&image); }
  Png(const Png&) = delete;
  Png& operator=(const Png&) = delete;
  png_image image;
};

}  // namespace

std::string EncodePng(const at::Tensor& image, std::string_view origin) {
  if (image.scalar_type() != at::kByte || image.dim() != 3 || image.size(0) != 3 ||
      image.numel() == 0 || image.size(1) > kMaxSide || image.size(2) > kMaxSide) {
    throw Error(
        fmt::format("{}: a picture must be uint8 (3, height, width) of at most {} pixels a "
                    "side to be written as PNG; this is {} of {} dimensions.",
                    origin, kMaxSide, c10::toString(image.scalar_type()), image.dim()));
  }
  const at::Tensor rows = image.cpu().permute({1, 2, 0}).contiguous();
  Png png;
  png.image.width = static_cast<png_uint_32>(image.size(2));
  png.image.height = static_cast<png_uint_32>(image.size(1));
  png.image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = 0;
  std::string bytes;
  const void* pixels = rows.const_data_ptr();
  if (png_image_write_to_memory(&png.image, nullptr, &size, 0, pixels, 0, nullptr) != 0) {
    bytes.resize(size);
    if (png_image_write_to_memory(&png.image, bytes.data(), &size, 0, pixels, 0, nullptr) != 0) {
      bytes.resize(size);
      return bytes;
    }
  }
  throw Error(
      fmt::format("{}: libpng could not encode the picture: {}.", origin, png.image.message));
}

void WritePng(const std::filesystem::path& path, const at::Tensor& image) {
  WriteFileAtomically(path, EncodePng(image, path.string()));
}

}  // namespace excise
