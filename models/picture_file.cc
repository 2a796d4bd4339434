#include "models/picture_file.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/round.h>
#include <fmt/format.h>
// jpeglib.h needs the next one before it.
#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "core/error.h"
#include "models/image_io.h"

namespace excise {
namespace {

constexpr uint64_t kMostBytes = uint64_t{256} << 20;
constexpr int64_t kMostSide = 16384;

// libjpeg reports errors by a function that must not return.
struct JpegErrors {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void LeaveJpeg(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  (*info->err->format_message)(info, errors->message);
  std::longjmp(errors->jump, 1);
}

// What is only a warning to libjpeg (a file that was cut off: the rest is grey) is an error here.
void RefuseWarnings(j_common_ptr info, int level) {
  if (level < 0) LeaveJpeg(info);
}

// Plain data alone lives in these functions, for longjmp runs no destructors.
bool ReadJpegSize(jpeg_decompress_struct* info, JpegErrors* errors, std::string_view bytes) {
  if (setjmp(errors->jump) != 0) return false;
  jpeg_create_decompress(info);
  jpeg_mem_src(info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(info, TRUE);
  return true;
}

bool ReadJpegPixels(jpeg_decompress_struct* info, JpegErrors* errors, unsigned char* pixels) {
  if (setjmp(errors->jump) != 0) return false;
  info->out_color_space = JCS_RGB;
  info->dct_method = JDCT_ISLOW;
  jpeg_start_decompress(info);
  while (info->output_scanline < info->output_height) {
    unsigned char* row = pixels + size_t{info->output_scanline} * info->output_width * 3;
    jpeg_read_scanlines(info, &row, 1);
  }
  jpeg_finish_decompress(info);
  return true;
}

void CheckPixels(int64_t width, int64_t height, std::string_view origin) {
  if (width <= kMostSide && height <= kMostSide && width * height <= kMostPixels) return;
  throw Error(fmt::format("{}: {} x {} pixels; at most {} a side and {} in all are read.", origin,
                          width, height, kMostSide, kMostPixels));
}

bool StartsWith(std::string_view bytes, std::string_view magic) {
  return bytes.substr(0, magic.size()) == magic;
}

// Width and height stand in the first chunk of a PNG file.
int64_t BigEndian(std::string_view bytes, size_t at) {
  int64_t value = 0;
  for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

}  // namespace

at::Tensor DecodeJpeg(std::string_view bytes, std::string_view origin) {
  jpeg_decompress_struct info = {};
  JpegErrors errors = {};
  info.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = LeaveJpeg;
  errors.manager.emit_message = RefuseWarnings;
  struct Destroy {
    jpeg_decompress_struct* info;
    ~Destroy() { jpeg_destroy_decompress(info); }
  } destroy{&info};
  if (!ReadJpegSize(&info, &errors, bytes)) {
    throw Error(fmt::format("{}: no JPEG file, or a damaged one: {}.", origin, errors.message));
  }
  CheckPixels(info.image_width, info.image_height, origin);
  const at::Tensor rows = at::empty({info.image_height, info.image_width, 3}, at::kByte);
  if (!ReadJpegPixels(&info, &errors, rows.data_ptr<uint8_t>())) {
    throw Error(fmt::format("{}: the JPEG file is damaged or of a kind that is not read: {}.",
                            origin, errors.message));
  }
  return rows.permute({2, 0, 1}).contiguous();
}

at::Tensor ReadPicture(const std::filesystem::path& path) {
  std::error_code problem;
  const bool plain = std::filesystem::is_regular_file(path, problem);
  const uint64_t size = plain ? std::filesystem::file_size(path, problem) : 0;
  std::ifstream in;
  if (plain && !problem) in.open(path, std::ios::binary);
  if (!in.is_open()) {
    throw Error(fmt::format("{}: there is no such picture that can be read.", path.string()));
  }
  if (size > kMostBytes) {
    throw Error(fmt::format("{}: {} bytes; at most {} are read.", path.string(), size, kMostBytes));
  }
  const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (StartsWith(bytes, "\xFF\xD8\xFF")) return DecodeJpeg(bytes, path.string());
  if (!StartsWith(bytes, "\x89PNG\r\n\x1a\n") || bytes.size() < 24) {
    throw Error(fmt::format("{}: neither a PNG nor a JPEG file.", path.string()));
  }
  CheckPixels(BigEndian(bytes, 16), BigEndian(bytes, 20), path.string());
  return DecodePng(bytes, path.string());
}

at::Tensor CentredSquare(const at::Tensor& image, int64_t side) {
  const int64_t height = image.size(1), width = image.size(2), square = std::min(height, width);
  const at::Tensor centre =
      image.narrow(1, (height - square) / 2, square).narrow(2, (width - square) / 2, square);
  if (square == side) return centre.contiguous();
  const at::Tensor resized = at::_upsample_bicubic2d_aa(centre.unsqueeze(0).to(at::kFloat),
                                                        {side, side}, /*align_corners=*/false);
  return at::round(resized).clamp(0, 255).to(at::kByte)[0];
}

}  // namespace excise
