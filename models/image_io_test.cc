#include "models/image_io.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "tests/testdata.h"

namespace excise {
namespace {

// Written by Pillow 13.0.0: 2 x 1 pixels, (255, 0, 0) opaque and (0, 0, 255) with alpha 0; RGBA.
constexpr unsigned char kRgba[] = {
    0x89, 0x50, 0x4e, 0x47, 0xd,  0xa,  0x1a, 0xa,  0x0,  0x0,  0x0,  0xd,  0x49, 0x48, 0x44,
    0x52, 0x0,  0x0,  0x0,  0x2,  0x0,  0x0,  0x0,  0x1,  0x8,  0x6,  0x0,  0x0,  0x0,  0xf4,
    0x22, 0x7f, 0x8a, 0x0,  0x0,  0x0,  0x11, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0xf8,
    0xcf, 0xc0, 0xf0, 0x9f, 0x81, 0xe1, 0x3f, 0x3,  0x0,  0xe,  0xfa, 0x2,  0xfe, 0xe2, 0xea,
    0x95, 0x4c, 0x0,  0x0,  0x0,  0x0,  0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};

}  // namespace

TEST_CASE("a picture survives PNG") {
  const at::Tensor image = at::arange(3 * 5 * 7, at::kByte).reshape({3, 5, 7}).mul(2);
  const auto path = TestFolder("png") / "a.png";
  WritePng(path, image);
  CHECK(ReadPng(path).equal(image));
}

TEST_CASE("transparency is laid on white, channels come in the order R, G, B") {
  const std::string_view bytes(reinterpret_cast<const char*>(kRgba), sizeof kRgba);
  const at::Tensor image = DecodePng(bytes, "test");
  CHECK(image.sizes() == at::IntArrayRef{3, 1, 2});
  const auto value = [&](int64_t channel, int64_t x) { return image[channel][0][x].item<int>(); };
  CHECK((value(0, 0) == 255 && value(1, 0) == 0 && value(2, 0) == 0));
  CHECK((value(0, 1) == 255 && value(1, 1) == 255 && value(2, 1) == 255));
}

TEST_CASE("wrong tensors and damaged files are refused by name") {
  const auto folder = TestFolder("png_bad");
  CHECK_THROWS_WITH(WritePng(folder / "f.png", at::zeros({3, 4, 4})), Catch::Contains("f.png"));
  CHECK_THROWS_AS(WritePng(folder / "f.png", at::zeros({1, 4, 4}, at::kByte)), Error);
  CHECK_FALSE(std::filesystem::exists(folder / "f.png"));
  CHECK_THROWS_WITH(ReadPng(folder / "none.png"), Catch::Contains("none.png"));
  const std::string whole = EncodePng(at::zeros({3, 64, 64}, at::kByte), "test");
  CHECK_THROWS_WITH(DecodePng(whole.substr(0, whole.size() / 2), "cut.png"),
                    Catch::Contains("cut.png"));
  CHECK_THROWS_WITH(DecodePng("GIF89a", "a.gif"), Catch::Contains("not a PNG"));
}

}  // namespace excise
