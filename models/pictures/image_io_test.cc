#include "models/pictures/image_io.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "models/pictures/picture_file.h"
#include "tests/testdata.h"

namespace excise {

TEST_CASE("a picture survives PNG") {
  const at::Tensor image = at::arange(3 * 5 * 7, at::kByte).reshape({3, 5, 7}).mul(2);
  const auto path = TestFolder("png") / "a.png";
  WritePng(path, image);
  CHECK(ReadPicture(path).equal(image));
}

TEST_CASE("wrong tensors are refused by name") {
  const auto folder = TestFolder("png_bad");
  CHECK_THROWS_WITH(WritePng(folder / "f.png", at::zeros({3, 4, 4})), Catch::Contains("f.png"));
  CHECK_THROWS_AS(WritePng(folder / "f.png", at::zeros({1, 4, 4}, at::kByte)), Error);
  CHECK_FALSE(std::filesystem::exists(folder / "f.png"));
}

}  // namespace excise
