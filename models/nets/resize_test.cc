#include "models/nets/resize.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

namespace excise {
namespace {

at::Tensor Row(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kByte).view({1, 1, 1, -1});
}

}  // namespace

// Pillow 13.0.0: Image.fromarray(row).resize((n, 1), mode), worked through by hand as well.
TEST_CASE("a row of pixels becomes what Pillow makes of it") {
  const at::Tensor row = Row({0, 255, 0, 0, 200, 90, 30, 255});
  const auto resized = [&](int64_t width, Resampling mode) {
    return ResizePictures(row, 1, width, mode);
  };
  // To a half: triangles over four pixels, (3 3 1) / 7 at the end.
  CHECK(resized(4, Resampling::kBilinear).equal(Row({109, 57, 113, 135})));
  CHECK(resized(4, Resampling::kBicubic).equal(Row({116, 47, 116, 136})));
  CHECK(resized(5, Resampling::kBilinear).equal(Row({104, 66, 95, 95, 163})));
  CHECK(resized(11, Resampling::kBicubic)
            .equal(Row({0, 166, 203, 0, 0, 107, 195, 94, 26, 120, 255})));
  CHECK(resized(8, Resampling::kBicubic).equal(row));
}

// Image.fromarray(picture).resize((3, 3), BILINEAR): the two orders round differently here.
TEST_CASE("of a tall picture the rows come first") {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < 45; ++i) values.push_back((i * i * 37 + i * 11) % 256);
  const at::Tensor tall = at::tensor(values, at::kByte).view({1, 1, 9, 5});
  CHECK(ResizePictures(tall, 3, 3, Resampling::kBilinear)
            .equal(at::tensor(std::vector<int64_t>{141, 133, 146, 146, 159, 162, 159, 135, 133},
                              at::kByte)
                       .view({1, 1, 3, 3})));
  const at::Tensor wide = at::tensor(values, at::kByte).view({1, 1, 5, 9});
  CHECK(ResizePictures(wide, 3, 3, Resampling::kBilinear)
            .equal(at::tensor(std::vector<int64_t>{112, 163, 134, 178, 158, 133, 140, 151, 136},
                              at::kByte)
                       .view({1, 1, 3, 3})));
}

TEST_CASE("rows and columns alike, and a uniform picture stays one") {
  const at::Tensor row = Row({0, 255, 0, 0, 200, 90, 30, 255});
  const at::Tensor column = row.transpose(2, 3);
  for (const Resampling mode : {Resampling::kBilinear, Resampling::kBicubic}) {
    CHECK(
        ResizePictures(column, 5, 1, mode).transpose(2, 3).equal(ResizePictures(row, 1, 5, mode)));
    const at::Tensor grey = at::full({2, 3, 7, 5}, 77, at::kByte);
    CHECK(ResizePictures(grey, 20, 3, mode).equal(at::full({2, 3, 20, 3}, 77, at::kByte)));
  }
}

TEST_CASE("the middle is cut as torchvision cuts it") {
  const at::Tensor ramp = at::arange(9, at::kByte).view({1, 1, 1, 9}).expand({1, 1, 4, 9});
  // 9 - 4 = 5 pixels are too many: 2 of them (the even half) go on the left.
  CHECK(ResizeAndCut(ramp, 4, 4, Resampling::kBilinear)[0][0][0].equal(
      at::tensor({2, 3, 4, 5}, at::kByte)));
  // 7 too many: 3.5 becomes 4.
  CHECK(ResizeAndCut(ramp.narrow(2, 0, 2), 2, 2, Resampling::kBilinear)[0][0][0].equal(
      at::tensor({4, 5}, at::kByte)));
}

// OpenCV 4.11.0: cv2.resize(picture, (width, height)). The first by hand: places -0.5 + 1.6 (i +
// 0.5) = 0.3, 1.9, 3.5, 5.1, 6.7.
TEST_CASE("OpenCV's default lies between two neighbours, and halves are means") {
  const at::Tensor row = Row({0, 255, 0, 0, 200, 90, 30, 255});
  CHECK(ResizeAsOpenCv(row, 1, 5).equal(Row({76, 26, 100, 84, 188})));
  CHECK(ResizeAsOpenCv(row, 1, 4).equal(Row({128, 0, 145, 143})));
  CHECK(ResizeAsOpenCv(row, 1, 11).equal(Row({0, 151, 174, 0, 0, 100, 175, 95, 49, 122, 255})));
  CHECK(ResizeAsOpenCv(row, 1, 8).equal(row));
  std::vector<int64_t> values;
  for (int64_t i = 0; i < 48; ++i) values.push_back((i * i * 37 + i * 11) % 256);
  const at::Tensor picture = at::tensor(values, at::kByte).view({1, 1, 6, 8});
  const auto resized = [&](int64_t height, int64_t width) {
    return ResizeAsOpenCv(picture, height, width).flatten();
  };
  CHECK(resized(3, 4).equal(at::tensor(
      std::vector<int64_t>{56, 188, 168, 124, 120, 188, 168, 124, 184, 124, 168, 124}, at::kByte)));
  CHECK(resized(7, 5).equal(
      at::tensor(std::vector<int64_t>{14,  158, 117, 202, 104, 92,  195, 155, 240, 101, 144, 171,
                                      196, 199, 131, 122, 175, 173, 182, 109, 99,  180, 150, 164,
                                      86,  151, 155, 164, 123, 116, 229, 193, 101, 161, 113},
                 at::kByte)));
  const at::Tensor grey = at::full({2, 3, 7, 5}, 77, at::kByte);
  CHECK(ResizeAsOpenCv(grey, 20, 3).equal(at::full({2, 3, 20, 3}, 77, at::kByte)));
}

}  // namespace excise
