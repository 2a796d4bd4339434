#include "models/formats/picture_decoder.h"

#include <ATen/core/Tensor.h>
#include <fcntl.h>
#include <fmt/format.h>  // jpeglib.h needs its FILE
#include <jpeglib.h>
#include <png.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>

#include "core/error.h"
#include "core/read_file.h"
#include "models/formats/exif.h"
#include "models/pictures/picture_file.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

using Bytes = std::vector<uint8_t>;

fs::path Save(const std::string& name, const std::string& bytes) {
  static const fs::path folder = TestFolder("picture_decoder");
  std::ofstream(folder / name, std::ios::binary) << bytes;
  return folder / name;
}

struct Chunk {
  std::string type, data;
};

std::string BigEndian(uint32_t value, int size = 4) {
  std::string bytes;
  for (int i = size - 1; i >= 0; --i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

// A picture of one row. `bytes`: its samples as PNG stores them; `chunks` come before them.
std::string Png(int width, int depth, int colour, Bytes bytes,
                const std::vector<Chunk>& chunks = {}, const std::string& profile = "",
                const Bytes& palette_alpha = {}) {
  std::string file;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &file,
      [](png_structp p, png_bytep data, size_t size) {
        static_cast<std::string*>(png_get_io_ptr(p))->append(reinterpret_cast<char*>(data), size);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), 1, depth, colour, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!profile.empty()) {
    png_set_iCCP(png, info, "a profile", PNG_COMPRESSION_TYPE_BASE,
                 reinterpret_cast<png_const_bytep>(profile.data()),
                 static_cast<png_uint_32>(profile.size()));
  }
  if (!palette_alpha.empty()) {
    const png_color colours[] = {{10, 20, 30}, {40, 50, 60}};
    png_set_PLTE(png, info, colours, 2);
    png_set_tRNS(png, info, palette_alpha.data(), static_cast<int>(palette_alpha.size()), nullptr);
  }
  png_write_info(png, info);
  for (const Chunk& chunk : chunks) {
    png_write_chunk(png, reinterpret_cast<png_const_bytep>(chunk.type.data()),
                    reinterpret_cast<png_const_bytep>(chunk.data.data()), chunk.data.size());
  }
  png_bytep row = bytes.data();
  png_write_image(png, &row);
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return file;
}

std::string Png16(uint16_t value, const std::vector<Chunk>& chunks = {}) {
  const auto high = static_cast<uint8_t>(value >> 8), low = static_cast<uint8_t>(value);
  return Png(1, 16, PNG_COLOR_TYPE_GRAY, {high, low}, chunks);
}

Bytes Pixels(const std::string& file) { return DecodePicture(file, "test").pixels; }

// As it is shown: (3, height, width).
Bytes Shown(const std::string& file) {
  const at::Tensor image = ReadPicture(Save("shown", file));
  return {image.data_ptr<uint8_t>(), image.data_ptr<uint8_t>() + image.numel()};
}

// A TIFF header with the one tag Orientation.
std::string Tiff(int orientation, bool little) {
  const auto number = [&](uint32_t value, int size) {
    std::string bytes = BigEndian(value, size);
    if (little) std::reverse(bytes.begin(), bytes.end());
    return bytes;
  };
  return (little ? "II" : "MM") + number(42, 2) + number(8, 4) + number(1, 2) + number(0x0112, 2) +
         number(3, 2) + number(1, 4) + number(static_cast<uint32_t>(orientation), 2) +
         number(0, 2) + number(0, 4);
}

struct JpegOptions {
  std::string exif;     // TIFF
  std::string profile;  // ICC
  std::vector<jpeg_scan_info> scans;
};

// `blocks`: grey values of blocks of 8 x 8 pixels, so that JPEG keeps them.
std::string Jpeg(const std::vector<Bytes>& blocks, const JpegOptions& options = {}) {
  jpeg_compress_struct info = {};
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &out, &size);
  info.image_width = static_cast<JDIMENSION>(8 * blocks[0].size());
  info.image_height = static_cast<JDIMENSION>(8 * blocks.size());
  info.input_components = 1;
  info.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 100, TRUE);
  if (!options.scans.empty()) {
    info.scan_info = options.scans.data();
    info.num_scans = static_cast<int>(options.scans.size());
  }
  jpeg_start_compress(&info, TRUE);
  const auto marker = [&](int code, const std::string& data) {
    jpeg_write_marker(&info, code, reinterpret_cast<const JOCTET*>(data.data()),
                      static_cast<unsigned>(data.size()));
  };
  if (!options.exif.empty()) marker(JPEG_APP0 + 1, std::string("Exif\0\0", 6) + options.exif);
  if (!options.profile.empty()) {
    marker(JPEG_APP0 + 2, std::string("ICC_PROFILE\0\1\1", 14) + options.profile);
  }
  for (const Bytes& line : blocks) {
    Bytes row;
    for (const uint8_t value : line) row.insert(row.end(), 8, value);
    unsigned char* rows[] = {row.data()};
    for (int i = 0; i < 8; ++i) jpeg_write_scanlines(&info, rows, 1);
  }
  jpeg_finish_compress(&info);
  std::string file(reinterpret_cast<char*>(out), size);
  jpeg_destroy_compress(&info);
  std::free(out);
  return file;
}

// The blocks of a grey picture as it is shown.
std::vector<Bytes> Blocks(const std::string& file) {
  const at::Tensor image = ReadPicture(Save("blocks", file));
  std::vector<Bytes> blocks;
  for (int64_t y = 4; y < image.size(1); y += 8) {
    blocks.emplace_back();
    for (int64_t x = 4; x < image.size(2); x += 8) {
      blocks.back().push_back(image[0][y][x].item<uint8_t>());
    }
  }
  return blocks;
}

// Progressive scripts: each coefficient in a scan of its own, or from `top` on each bit of it; of
// these the first `count`. With top = 0 the picture is whole after 64.
std::vector<jpeg_scan_info> Scans(int count, int top = 10) {
  const auto scan = [](int first, int last, int high, int low) {
    jpeg_scan_info info = {};
    info.comps_in_scan = 1;
    std::tie(info.Ss, info.Se, info.Ah, info.Al) = std::tuple(first, last, high, low);
    return info;
  };
  std::vector<jpeg_scan_info> scans = {scan(0, 0, 0, 0)};
  for (int bit = top; bit >= 0; --bit) {
    for (int k = 1; k < 64; ++k) {
      if (static_cast<int>(scans.size()) == count) return scans;
      scans.push_back(scan(k, k, bit == top ? 0 : bit + 1, bit));
    }
  }
  return scans;
}

// What `work` writes to stderr.
template <class Work>
std::string Said(const Work& work) {
  const fs::path file = Save("said", "");
  const int kept = dup(STDERR_FILENO), log = open(file.c_str(), O_WRONLY | O_TRUNC);
  dup2(log, STDERR_FILENO);
  work();
  dup2(kept, STDERR_FILENO);
  close(kept);
  close(log);
  return ReadFile(file);
}

// An ICC profile that says nothing: a header, no tags, and so many bytes that libpng looks at it.
std::string BareProfile() {
  std::string profile(260, '\0');
  for (size_t i = 132; i < profile.size(); ++i) profile[i] = static_cast<char>(i * 37 + i / 7 * 11);
  const auto put = [&](size_t at, const std::string& bytes) {
    profile.replace(at, bytes.size(), bytes);
  };
  put(0, BigEndian(260));
  put(8, BigEndian(0x02400000));
  put(12, "mntr");
  put(16, "RGB ");
  put(20, "XYZ ");
  put(36, "acsp");
  put(68, BigEndian(0xF6D6) + BigEndian(0x10000) + BigEndian(0xD32D));  // D50
  return profile;
}

}  // namespace

TEST_CASE("16-bit PNGs keep their brightness: 0x8080 is 0x80") {
  CHECK(Pixels(Png16(0x8080)) == Bytes{0x80, 0x80, 0x80});
  CHECK(Pixels(Png16(0x0000)) == Bytes{0, 0, 0});
  CHECK(Pixels(Png16(0x4040)) == Bytes{0x40, 0x40, 0x40});
  CHECK(Pixels(Png16(0xFFFF)) == Bytes{255, 255, 255});
  CHECK(Pixels(Png(1, 16, PNG_COLOR_TYPE_RGB, {0x10, 0x10, 0x20, 0x20, 0x30, 0x30})) ==
        Bytes{0x10, 0x20, 0x30});
  // Nearest: 0x80FF / 257 = 128.49, 0x8101 / 257 = 128.50.
  CHECK(Pixels(Png16(0x80FF))[0] == 0x80);
  CHECK(Pixels(Png16(0x8102))[0] == 0x81);
  // 8-bit values, grey or not, are as they stand.
  CHECK(Pixels(Png(2, 8, PNG_COLOR_TYPE_GRAY, {7, 200})) == Bytes{7, 7, 7, 200, 200, 200});
  CHECK(Pixels(Png(2, 1, PNG_COLOR_TYPE_GRAY, {0x40})) == Bytes{0, 0, 0, 255, 255, 255});
}

TEST_CASE("gAMA and sRGB chunks of PNGs mean what they mean to viewers") {
  const Chunk srgb = {"sRGB", std::string(1, '\0')};
  const Chunk usual = {"gAMA", BigEndian(45455)}, linear = {"gAMA", BigEndian(100000)};
  const auto both_depths = [](const std::vector<Chunk>& chunks) {
    const Bytes low = Pixels(Png(1, 8, PNG_COLOR_TYPE_GRAY, {0x80}, chunks));
    CHECK(std::abs(low[0] - Pixels(Png16(0x8080, chunks))[0]) <= 1);
    return static_cast<int>(low[0]);
  };
  CHECK(both_depths({}) == 0x80);
  CHECK(both_depths({srgb}) == 0x80);
  CHECK(both_depths({usual}) == 0x80);
  // 128/255 of the light is (128/255)^(1/2.2) = 0.7310 in the file's terms: 186.4 of 255; by the
  // curve of sRGB, which has a straight beginning, 1.055 x (128/255)^(1/2.4) - 0.055 = 0.7367:
  // 187.9.
  const int bright = both_depths({linear});
  CHECK((bright == 186 || bright == 187 || bright == 188));
  // sRGB overrides gAMA.
  CHECK(both_depths({srgb, linear}) == 0x80);
}

TEST_CASE("transparency of PNGs is laid on white, and reported") {
  const std::string opaque = Png(1, 8, PNG_COLOR_TYPE_RGB_ALPHA, {10, 20, 30, 255});
  std::string said = Said([&] { CHECK(Shown(opaque) == Bytes{10, 20, 30}); });
  CHECK(said.empty());
  // 0.5 of black on white: (0 x 128 + 255 x 127) / 255 = 127.
  const std::string half = Png(2, 8, PNG_COLOR_TYPE_RGB_ALPHA, {0, 0, 0, 128, 9, 9, 9, 0});
  said = Said([&] {
    CHECK(Shown(half) == Bytes{127, 255, 127, 255, 127, 255});
    Shown(half);  // reported once
  });
  CHECK_THAT(said, Contains("2 of its 2 pixels are transparent. They are laid on white"));
  CHECK(std::count(said.begin(), said.end(), '\n') == 1);
  // Grey with alpha, 16 bits, and a palette with a transparent colour.
  CHECK(Shown(Png(1, 8, PNG_COLOR_TYPE_GRAY_ALPHA, {60, 255})) == Bytes{60, 60, 60});
  CHECK(Shown(Png(1, 16, PNG_COLOR_TYPE_GRAY_ALPHA, {0x80, 0x80, 0, 0})) == Bytes{255, 255, 255});
  CHECK(Shown(Png(1, 16, PNG_COLOR_TYPE_GRAY_ALPHA, {0x80, 0x80, 0xFF, 0xFF})) ==
        Bytes{0x80, 0x80, 0x80});
  CHECK(Shown(Png(2, 8, PNG_COLOR_TYPE_PALETTE, {0, 1}, {}, "", {0, 255})) ==
        Bytes{255, 40, 255, 50, 255, 60});
}

TEST_CASE("orientation tags turn pictures upright, all eight") {
  // The upright picture, and how a camera that was held in the eight ways stores it: where its row
  // 0 and its column 0 lie in the upright one (EXIF 2.3, tag Orientation).
  const std::vector<Bytes> upright = {{20, 60, 100}, {140, 180, 220}};
  const std::vector<std::vector<Bytes>> stored = {
      {{20, 60, 100}, {140, 180, 220}},    // top, left
      {{100, 60, 20}, {220, 180, 140}},    // top, right
      {{220, 180, 140}, {100, 60, 20}},    // bottom, right
      {{140, 180, 220}, {20, 60, 100}},    // bottom, left
      {{20, 140}, {60, 180}, {100, 220}},  // left, top
      {{100, 220}, {60, 180}, {20, 140}},  // right, top
      {{220, 100}, {180, 60}, {140, 20}},  // right, bottom
      {{140, 20}, {180, 60}, {220, 100}},  // left, bottom
  };
  for (int orientation = 1; orientation <= 8; ++orientation) {
    for (const bool little : {false, true}) {
      INFO(orientation << " " << little);
      const auto& blocks = stored[static_cast<size_t>(orientation - 1)];
      CHECK(Blocks(Jpeg(blocks, {Tiff(orientation, little), "", {}})) == upright);
    }
  }
  // PNG has the same in a chunk: the two pixels change places.
  CHECK(Shown(Png(2, 8, PNG_COLOR_TYPE_GRAY, {1, 2}, {{"eXIf", Tiff(2, false)}})) ==
        Bytes{2, 1, 2, 1, 2, 1});
}

TEST_CASE("EXIF that says nothing or is damaged leaves a picture as it is") {
  const std::string tiff = Tiff(6, true);
  CHECK(ExifOrientation(tiff) == 6);
  for (size_t size = 0; size < tiff.size(); ++size) {
    const int read = ExifOrientation(std::string_view(tiff).substr(0, size));
    CHECK((read == 1 || (read == 6 && size >= 20)));
  }
  for (size_t i = 0; i < tiff.size(); ++i) {
    for (const char byte : {'\0', '\x7f', '\xff'}) {
      std::string damaged = tiff;
      damaged[i] = byte;
      const int read = ExifOrientation(damaged);
      CHECK((read >= 1 && read <= 8));
    }
  }
  CHECK(ExifOrientation(Tiff(0, false)) == 1);
  CHECK(ExifOrientation(Tiff(9, false)) == 1);
  CHECK(Blocks(Jpeg({{20, 60}}, {tiff.substr(0, 12), "", {}})) == std::vector<Bytes>{{20, 60}});
}

TEST_CASE("colour profiles other than sRGB are reported") {
  CHECK_FALSE(DecodePicture(Jpeg({{20}}), "test").foreign_profile);
  CHECK_FALSE(DecodePicture(Jpeg({{20}}, {"", "desc sRGB IEC61966-2.1", {}}), "t").foreign_profile);
  CHECK_FALSE(
      DecodePicture(Jpeg({{20}}, {"", std::string("\0s\0R\0G\0B", 8), {}}), "t").foreign_profile);
  const std::string wide = Jpeg({{20}}, {"", "Display P3", {}});
  CHECK(DecodePicture(wide, "test").foreign_profile);
  CHECK_THAT(Said([&] { ReadPicture(Save("p3.jpg", wide)); }),
             Contains("p3.jpg: its colour profile"));
  const Bytes pixel = {1, 2, 3};
  CHECK(DecodePicture(Png(1, 8, PNG_COLOR_TYPE_RGB, pixel, {}, BareProfile()), "test")
            .foreign_profile);
  CHECK_FALSE(DecodePicture(Png(1, 8, PNG_COLOR_TYPE_RGB, pixel), "test").foreign_profile);
}

TEST_CASE("a JPEG of hundreds of scans is refused, a progressive one is read") {
  CHECK(Blocks(Jpeg({{20, 60}}, {"", "", Scans(64, 0)})) == std::vector<Bytes>{{20, 60}});
  CHECK_NOTHROW(DecodePicture(Jpeg({{20}}, {"", "", Scans(kMostScans)}), "a.jpg"));
  for (const int scans : {kMostScans + 1, 694}) {
    CHECK_THROWS_WITH(DecodePicture(Jpeg({{20}}, {"", "", Scans(scans)}), "a.jpg"),
                      Contains("a.jpg") && Contains("more than 100 scans"));
  }
}

TEST_CASE("pictures that are no regular files, or too large, are refused before they are read") {
  const fs::path pipe = Save("x", "").parent_path() / "pipe.png";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(ReadPicture(pipe), Contains("pipe.png is a pipe"));
  CHECK_THROWS_WITH(RequirePictureFile(pipe), Contains("is a pipe"));
  const fs::path sparse = Save("huge.png", "");
  fs::resize_file(sparse, uint64_t{300} << 30);
  CHECK_THROWS_WITH(ReadPicture(sparse), Contains("322122547200 bytes; at most"));
  CHECK_THROWS_WITH(RequirePictureFile(sparse), Contains("322122547200 bytes; at most"));
  CHECK_NOTHROW(RequirePictureFile(Save("small.png", "?")));
}

TEST_CASE("a chunk of a PNG that claims gigabytes is refused before memory is asked for it") {
  std::string png = Png(1, 8, PNG_COLOR_TYPE_GRAY, {7}, {{"eXIf", "II*"}});
  const size_t length = png.find("eXIf") - 4;
  png.replace(length, 4, BigEndian(0x68000000));
  CHECK_THROWS_WITH(DecodePicture(png, "big.png"),
                    Contains("big.png") && Contains("claims 1744830464 bytes"));
}

TEST_CASE("a PNG that ends too early is refused") {
  const std::string whole = Png(1, 8, PNG_COLOR_TYPE_GRAY, {3});
  for (size_t size = 24; size < whole.size(); ++size) {
    CHECK_THROWS_WITH(DecodePicture(whole.substr(0, size), "cut.png"), Contains("cut.png"));
  }
  for (size_t i = 24; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] ^= 0x55;
    CHECK_THROWS_WITH(DecodePicture(damaged, "damaged.png"), Contains("damaged.png"));
  }
}

}  // namespace excise
