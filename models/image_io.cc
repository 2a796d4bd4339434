#include "models/image_io.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <png.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "core/error.h"
#include "core/store.h"

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

at::Tensor DecodePng(std::string_view bytes, std::string_view origin) {
  Png png;
  if (png_image_begin_read_from_memory(&png.image, bytes.data(), bytes.size()) == 0) {
    throw Error(
        fmt::format("{}: not a PNG file, or a damaged one: {}.", origin, png.image.message));
  }
  if (png.image.width > kMaxSide || png.image.height > kMaxSide) {
    throw Error(fmt::format("{}: {} x {} pixels; at most {} a side are read.", origin,
                            png.image.width, png.image.height, kMaxSide));
  }
  png.image.format = PNG_FORMAT_RGB;
  const png_color white = {255, 255, 255};
  const at::Tensor rows =
      at::empty({png.image.height, png.image.width, 3}, at::TensorOptions(at::kByte));
  if (png_image_finish_read(&png.image, &white, rows.mutable_data_ptr(), 0, nullptr) == 0) {
    throw Error(fmt::format("{}: the PNG file is damaged: {}. Was the copy interrupted?", origin,
                            png.image.message));
  }
  return rows.permute({2, 0, 1}).contiguous();
}

void WritePng(const std::filesystem::path& path, const at::Tensor& image) {
  WriteFileAtomically(path, EncodePng(image, path.string()));
}

at::Tensor ReadPng(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path)) {
    throw Error(fmt::format("{}: cannot be opened. Does the picture exist, and is it readable?",
                            path.string()));
  }
  const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  return DecodePng(bytes, path.string());
}

}  // namespace excise
