// Letters whose shape is known beforehand, from the font's own tables: U+25A0, a square from 112 to
// 1456 and from -90 to 1254 of 2048 units, whose origin is 1568 before the next one's; lines start
// 1896 above the baseline, rounded up to a whole pixel.
#include "attacks/pez/lettering.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <string>

#include "core/error.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

const std::string kSquare = "\u25a0";

// Where blue covers a black picture, (h, w).
at::Tensor Coverage(const std::string& word, int64_t height, int64_t width,
                    const Lettering& how = {}) {
  return Lettered(at::zeros({1, 3, height, width}), word, how)[0][2];
}

struct Columns {
  int64_t first = -1, last = -1;
};

Columns Inked(const at::Tensor& coverage) {
  Columns columns;
  const at::Tensor most = coverage.amax(0);
  for (int64_t x = 0; x < most.size(0); ++x) {
    if (most[x].item<double>() == 0) continue;
    if (columns.first < 0) columns.first = x;
    columns.last = x;
  }
  return columns;
}

}  // namespace

TEST_CASE("lettering: two squares have the font's size, place and distance") {
  // 512 high, letters of 128: a unit is 1/16 pixel. The squares are 84 wide, 98 apart.
  const int64_t left = 148, top = 200;  // 0.29 and 0.39 of 512, rounded
  const at::Tensor coverage = Coverage(kSquare + kSquare, 512, 512);
  at::Tensor columns = at::zeros({512}), rows = at::zeros({512});
  columns.slice(0, left, left + 84).fill_(1);
  columns.slice(0, left + 98, left + 182).fill_(1);
  // From 119 - 78.375 to 119 + 5.625 below the line's upper edge.
  rows.slice(0, top + 41, top + 124).fill_(1);
  rows[top + 40] = 0.375;
  rows[top + 124] = 0.625;
  const at::Tensor expected = rows.unsqueeze(1) * columns.unsqueeze(0);
  CHECK(at::allclose(coverage, expected, /*rtol=*/0, /*atol=*/0.005));
}

TEST_CASE("lettering: the same place on a picture of another size") {
  // 64 high, letters of 16: the square is 10.5 wide, from 0.875 to 11.375; the line starts at
  // 0.39 * 64 = 25, rounded.
  const at::Tensor coverage = Coverage(kSquare, 64, 96);
  const Columns columns = Inked(coverage);
  CHECK(columns.first == 19);  // 0.29 * 64 = 18.6
  CHECK(columns.last == 19 + 11);
  CHECK(coverage.sum().item<double>() == Approx(10.5 * 10.5).epsilon(0.01));
  // 15 - 9.8 to 15 + 0.7 below.
  CHECK(coverage[25 + 4].max().item<double>() == 0);
  CHECK(coverage[25 + 5].max().item<double>() == Approx(0.8).margin(0.01));
  CHECK(coverage[25 + 15].max().item<double>() == Approx(0.7).margin(0.01));
  CHECK(coverage[25 + 16].max().item<double>() == 0);
}

TEST_CASE("lettering: letters are blue by opacity and coverage, all else is the picture") {
  const at::Tensor pictures = TinyImages(3, 5);
  const at::Tensor covered = Coverage("dog", 64, 64);
  CHECK(covered.gt(0).sum().item<int64_t>() > 30);
  CHECK(covered.eq(0).sum().item<int64_t>() > 2000);
  const at::Tensor blue = at::tensor({0.f, 0.f, 1.f}).view({1, 3, 1, 1});
  for (const double opacity : {0.0, 0.4, 1.0}) {
    INFO("opacity " << opacity);
    Lettering how;
    how.opacity = opacity;
    const at::Tensor lettered = Lettered(pictures, "dog", how);
    const at::Tensor share = covered * opacity;
    CHECK(at::allclose(lettered, blue * share + pictures * (1 - share), 0, 1e-6));
    const at::Tensor outside = covered.eq(0).expand_as(pictures);
    CHECK(lettered.masked_select(outside).equal(pictures.masked_select(outside)));
    CHECK(lettered.equal(pictures) == (opacity == 0));
  }
}

TEST_CASE("lettering: a word that is too long is whole, and the letters have one shape") {
  Lettering how;
  how.left = 0.9;  // there is place for no letter
  const at::Tensor moved = Coverage(kSquare, 64, 64, how);
  CHECK(Inked(moved).last == 63);
  CHECK(moved.sum().item<double>() == Approx(10.5 * 10.5).epsilon(0.01));
  // 10 squares at 16 pixels are 120.75 wide: at 8 they are 60.4, at 9 they would be 67.9.
  std::string ten;
  for (int i = 0; i < 10; ++i) ten += kSquare;
  const at::Tensor smaller = Coverage(ten, 64, 64);
  const Columns columns = Inked(smaller);
  CHECK(columns.last - columns.first + 1 == 61);
  CHECK(smaller.sum().item<double>() == Approx(10 * 5.25 * 5.25).epsilon(0.02));
  for (const char* phrase :
       {"a person wearing clothes", "watermelon", "Weihnachtsmann, Stra\u00dfe"}) {
    INFO(phrase);
    const Columns whole = Inked(Coverage(phrase, 64, 64));
    CHECK(whole.first >= 0);
    CHECK(whole.last - whole.first >= 40);
  }
}

TEST_CASE("lettering: a word of its own, the same each time, other letters elsewhere") {
  CHECK(Coverage("dog", 64, 64).equal(Coverage("dog", 64, 64)));
  CHECK_FALSE(Coverage("dog", 64, 64).equal(Coverage("cat", 64, 64)));
  CHECK_FALSE(Coverage("dog", 64, 64).equal(Coverage("god", 64, 64)));
  // A line below the lower edge is moved up.
  Lettering low;
  low.top = 1;
  CHECK(Coverage(kSquare, 64, 64, low).sum().item<double>() == Approx(10.5 * 10.5).epsilon(0.01));
}

TEST_CASE("lettering: what cannot be written is refused by name") {
  using Catch::Contains;
  for (const char* empty : {"", "   "}) {
    CHECK_THROWS_WITH(Coverage(empty, 64, 64), Contains("nothing to draw"));
  }
  // Hebrew alef: Symbola has none.
  CHECK_THROWS_WITH(Coverage("do\u05d0", 64, 64), Contains("no glyph for '\u05d0'"));
  CHECK_THROWS_AS(Coverage(std::string(300, 'm'), 64, 64), UsageError);
  CHECK_THROWS_WITH(Coverage(std::string(300, 'm'), 64, 64), Contains("too long"));
}

}  // namespace excise
