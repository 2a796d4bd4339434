// models/formats/picture_decoder.h, the PNG and JPEG of --images. What is accepted has its pixels,
// within the limits, and is the same when it is decoded again.
#include "models/formats/picture_decoder.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace excise;
  using fuzz::Require;
  const std::string_view bytes = fuzz::Text(data, size);
  DecodedPicture picture;
  if (!fuzz::Accepts([&] { picture = DecodePicture(bytes, "input"); })) return 0;
  Require(picture.width >= 1 && picture.width <= kMostSide, "a width within its limit");
  Require(picture.height >= 1 && picture.height <= kMostSide, "a height within its limit");
  Require(picture.width * picture.height <= kMostPixels, "no more pixels than may be");
  Require(picture.channels == 3 || picture.channels == 4, "RGB or RGBA");
  Require(static_cast<int64_t>(picture.pixels.size()) ==
              picture.width * picture.height * picture.channels,
          "a value a pixel and channel");
  Require(picture.orientation >= 1 && picture.orientation <= 8, "a way up");
  Require(DecodePicture(bytes, "input").pixels == picture.pixels, "the same every time");
  return 0;
}
