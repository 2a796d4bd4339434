#include "models/formats/jpeg_writer.h"

#include <jpeglib.h>

#include <cstdio>  // jpeglib.h needs its FILE
#include <cstdlib>

namespace excise {

// libjpeg ends the program where memory is short; it has no other error for these arguments.
std::string EncodeJpeg(const std::vector<uint8_t>& pixels, int64_t width, int64_t height,
                       int quality) {
  jpeg_compress_struct info = {};
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    // libjpeg reads it only.
    auto* row = const_cast<uint8_t*>(pixels.data()) +
                static_cast<size_t>(info.next_scanline) * static_cast<size_t>(3 * width);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string file(reinterpret_cast<const char*>(bytes), size);
  std::free(bytes);
  return file;
}

}  // namespace excise
