#include "models/formats/picture_decoder.h"

#include <fmt/format.h>  // jpeglib.h needs its FILE
#include <jpeglib.h>
#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "core/error.h"
#include "core/text.h"
#include "models/formats/exif.h"

namespace excise {
namespace {

constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1a\n";
constexpr std::string_view kJpegMagic = "\xFF\xD8\xFF";
constexpr std::string_view kExif("Exif\0\0", 6), kProfile("ICC_PROFILE\0", 12);
constexpr int kExifMarker = JPEG_APP0 + 1, kProfileMarker = JPEG_APP0 + 2;

void RequireFewPixels(int64_t width, int64_t height, std::string_view origin) {
  if (width <= kMostSide && height <= kMostSide && width * height <= kMostPixels) return;
  throw Error(fmt::format("{}: {} x {} pixels; at most {} a side and {} in all are read.", origin,
                          width, height, kMostSide, kMostPixels));
}

// The description in a profile is ASCII or, since version 4, UTF-16.
bool NamesSrgb(std::string_view profile) {
  return profile.find("sRGB") != profile.npos ||
         profile.find(std::string_view("s\0R\0G\0B", 7)) != profile.npos;
}

void Allocate(int64_t width, int64_t height, int channels, DecodedPicture* picture) {
  picture->width = width;
  picture->height = height;
  picture->channels = channels;
  picture->pixels.resize(static_cast<size_t>(width * height * channels));
}

std::vector<unsigned char*> RowsOf(DecodedPicture* picture) {
  std::vector<unsigned char*> rows;
  const int64_t stride = picture->width * picture->channels;
  for (int64_t y = 0; y < picture->height; ++y) rows.push_back(picture->pixels.data() + y * stride);
  return rows;
}

// ---- PNG. libpng reports errors by a function that must not return; plain data alone lives in the
// functions that it leaves by longjmp, for no destructors run.

struct PngSource {
  std::string_view left;
  char message[200] = "";
};

void ReadPngBytes(png_structp png, png_bytep out, size_t size) {
  auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (size > source->left.size()) png_error(png, "it ends too early");
  std::memcpy(out, source->left.data(), size);
  source->left.remove_prefix(size);
}

[[noreturn]] void LeavePng(png_structp png, png_const_charp message) {
  auto* source = static_cast<PngSource*>(png_get_error_ptr(png));
  std::snprintf(source->message, sizeof source->message, "%s", message);
  png_longjmp(png, 1);
}

// Of chunks that are not needed; they are left out, as viewers do.
void IgnorePngWarning(png_structp, png_const_charp) {}

struct Png {
  PngSource source;
  png_structp png = nullptr;
  png_infop info = nullptr;
  Png() = default;
  ~Png() { png_destroy_read_struct(&png, &info, nullptr); }
  Png(const Png&) = delete;
  Png& operator=(const Png&) = delete;
};

// Whatever the file holds comes as 8-bit sRGB, with alpha where there is some.
bool ReadPngHeader(png_structp png, png_infop info) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_info(png, info);
  png_set_expand(png);
  png_set_gray_to_rgb(png);
  png_set_scale_16(png);
  // Also says that a file without gAMA, sRGB or iCCP is sRGB, at 16 bits as at 8.
  png_set_alpha_mode_fixed(png, PNG_ALPHA_PNG, PNG_DEFAULT_sRGB);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  return true;
}

bool ReadPngRows(png_structp png, png_infop info, unsigned char** rows) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_image(png, rows);
  png_read_end(png, info);
  return true;
}

void ReadPngNotes(png_structp png, png_infop info, DecodedPicture* picture) {
  png_uint_32 size = 0;
  png_bytep bytes = nullptr;
  if (png_get_eXIf_1(png, info, &size, &bytes) != 0) {
    picture->orientation = ExifOrientation({reinterpret_cast<const char*>(bytes), size});
  }
  png_charp name = nullptr;
  int compression = 0;
  if (png_get_iCCP(png, info, &name, &compression, &bytes, &size) != 0) {
    picture->foreign_profile = !NamesSrgb({reinterpret_cast<const char*>(bytes), size});
  }
}

// Width and height stand in the first chunk of a PNG file.
int64_t BigEndian(std::string_view bytes, size_t at) {
  int64_t value = 0;
  for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// libpng asks for as much memory as a chunk claims to need before it reads it, so no chunk may
// claim more than the file has.
void RequireWholeChunks(std::string_view bytes, std::string_view origin) {
  constexpr size_t kFrame = 12;  // length, type and checksum
  for (size_t at = kPngMagic.size(); bytes.size() - at >= kFrame;) {
    if (bytes.substr(at + 4, 4) == "IEND") return;
    const size_t length = BigEndian(bytes, at);
    if (length > bytes.size() - at - kFrame) {
      throw Error(fmt::format(
          "{}: the PNG file is damaged: a part of it claims {} bytes, and the file has {}. Was the "
          "copy interrupted?",
          origin, length, bytes.size()));
    }
    at += kFrame + length;
  }
}

DecodedPicture DecodePng(std::string_view bytes, std::string_view origin) {
  RequireFewPixels(BigEndian(bytes, 16), BigEndian(bytes, 20), origin);
  RequireWholeChunks(bytes, origin);
  Png file;
  file.source.left = bytes;
  file.png =
      png_create_read_struct(PNG_LIBPNG_VER_STRING, &file.source, LeavePng, IgnorePngWarning);
  file.info = file.png == nullptr ? nullptr : png_create_info_struct(file.png);
  if (file.info == nullptr) throw Error(fmt::format("{}: libpng cannot be started.", origin));
  png_set_read_fn(file.png, &file.source, ReadPngBytes);
  DecodedPicture picture;
  bool whole = ReadPngHeader(file.png, file.info);
  if (whole) {
    const int64_t width = png_get_image_width(file.png, file.info);
    const int64_t height = png_get_image_height(file.png, file.info);
    RequireFewPixels(width, height, origin);
    Allocate(width, height, png_get_channels(file.png, file.info), &picture);
    std::vector<unsigned char*> rows = RowsOf(&picture);
    whole = ReadPngRows(file.png, file.info, rows.data());
  }
  if (!whole) {
    throw Error(fmt::format("{}: the PNG file is damaged: {}. Was the copy interrupted?", origin,
                            file.source.message));
  }
  ReadPngNotes(file.png, file.info, &picture);
  return picture;
}

// ---- JPEG. As with libpng, plain data alone lives where longjmp passes.

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

// Called while a file of many scans is read.
void RefuseManyScans(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMostScans) return;
  std::snprintf(errors->message, sizeof errors->message,
                "more than %d scans, which only a file made to cost time has", kMostScans);
  std::longjmp(errors->jump, 1);
}

bool ReadJpegHeader(jpeg_decompress_struct* info, JpegErrors* errors, std::string_view bytes) {
  if (setjmp(errors->jump) != 0) return false;
  jpeg_create_decompress(info);
  jpeg_mem_src(info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  for (const int marker : {kExifMarker, kProfileMarker}) jpeg_save_markers(info, marker, 0xFFFF);
  jpeg_read_header(info, TRUE);
  return true;
}

bool ReadJpegRows(jpeg_decompress_struct* info, JpegErrors* errors, unsigned char** rows) {
  if (setjmp(errors->jump) != 0) return false;
  info->out_color_space = JCS_RGB;
  info->dct_method = JDCT_ISLOW;
  jpeg_start_decompress(info);
  while (info->output_scanline < info->output_height) {
    jpeg_read_scanlines(info, rows + info->output_scanline, 1);
  }
  jpeg_finish_decompress(info);
  return true;
}

void ReadJpegNotes(const jpeg_decompress_struct& info, DecodedPicture* picture) {
  std::string profile;
  for (jpeg_saved_marker_ptr marker = info.marker_list; marker; marker = marker->next) {
    const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (marker->marker == kExifMarker && StartsWith(data, kExif)) {
      picture->orientation = ExifOrientation(data.substr(kExif.size()));
    }
    if (marker->marker == kProfileMarker && StartsWith(data, kProfile)) profile += data;
  }
  picture->foreign_profile = !profile.empty() && !NamesSrgb(profile);
}

DecodedPicture DecodeJpeg(std::string_view bytes, std::string_view origin) {
  jpeg_decompress_struct info = {};
  JpegErrors errors = {};
  info.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = LeaveJpeg;
  errors.manager.emit_message = RefuseWarnings;
  struct Destroy {
    jpeg_decompress_struct* info;
    ~Destroy() { jpeg_destroy_decompress(info); }
  } destroy{&info};
  if (!ReadJpegHeader(&info, &errors, bytes)) {
    throw Error(fmt::format("{}: no JPEG file, or a damaged one: {}.", origin, errors.message));
  }
  jpeg_progress_mgr progress = {};
  progress.progress_monitor = RefuseManyScans;
  info.progress = &progress;
  RequireFewPixels(info.image_width, info.image_height, origin);
  DecodedPicture picture;
  Allocate(info.image_width, info.image_height, 3, &picture);
  ReadJpegNotes(info, &picture);  // before the rows: with their end libjpeg forgets the notes
  std::vector<unsigned char*> rows = RowsOf(&picture);
  if (!ReadJpegRows(&info, &errors, rows.data())) {
    throw Error(fmt::format("{}: the JPEG file is damaged or of a kind that is not read: {}.",
                            origin, errors.message));
  }
  return picture;
}

}  // namespace

DecodedPicture DecodePicture(std::string_view bytes, std::string_view origin) {
  if (StartsWith(bytes, kJpegMagic)) return DecodeJpeg(bytes, origin);
  if (StartsWith(bytes, kPngMagic) && bytes.size() >= 24) return DecodePng(bytes, origin);
  throw Error(fmt::format("{}: neither a PNG nor a JPEG file.", origin));
}

}  // namespace excise
