// PNG and JPEG as they lie in the file. Without tensors, so that hostile files can be fuzzed
// without LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace excise {

// Of a picture's file.
inline constexpr uint64_t kMostPictureBytes = uint64_t{256} << 20;
// More pixels are refused before anything is allocated for them: a file of some kilobytes can ask
// for gigabytes.
inline constexpr int64_t kMostPixels = int64_t{1} << 26;  // 8192 x 8192
inline constexpr int64_t kMostSide = 16384;
// Each scan of a JPEG file passes over all pixels, however few bytes it has. Encoders write up to
// twenty.
inline constexpr int kMostScans = 100;

struct DecodedPicture {
  int64_t width = 0, height = 0;
  int channels = 3;              // 3: RGB, 4: RGBA, not premultiplied; as sRGB
  std::vector<uint8_t> pixels;   // height x width x channels
  int orientation = 1;           // as EXIF counts (models/formats/exif.h)
  bool foreign_profile = false;  // carries a colour profile that does not call itself sRGB
};

// The kind is read from the first bytes. Throws Error naming `origin`: neither PNG nor JPEG,
// damaged or cut off, too many pixels or scans, CMYK.
//
// 16-bit PNGs without a word on their encoding are sRGB, as viewers take them; gAMA is converted to
// sRGB where no sRGB chunk overrides it. Colour profiles are not applied.
DecodedPicture DecodePicture(std::string_view bytes, std::string_view origin);

}  // namespace excise
