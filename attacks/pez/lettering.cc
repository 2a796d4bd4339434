#include "attacks/pez/lettering.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/data_file.h"
#include "core/error.h"
#include "datasets/emoji/emoji_glyphs.h"

namespace excise {
namespace {

// `word` at `size` pixels, or smaller so that it is not wider than `width`.
GlyphBitmap LineThatFits(const std::string& word, int size, int width) {
  CheckedDigest(kLineFont.path, kLineFont.sha256, kLineFont.package);
  for (int next = size; next >= 1;) {
    GlyphBitmap line = GlyphFont(kLineFont.path, next).DrawLine(word);
    if (line.width <= width) return line;
    next = std::min(next - 1, next * width / line.width);
  }
  throw UsageError(
      fmt::format("'{}' is too long to be written on a picture that is {} pixels wide. Set a "
                  "shorter word.",
                  word, width));
}

}  // namespace

at::Tensor Lettered(const at::Tensor& pictures, const std::string& word, const Lettering& how) {
  const auto height = static_cast<int>(pictures.size(2)),
             width = static_cast<int>(pictures.size(3));
  const auto pixels = [&](double share) { return static_cast<int>(std::lround(share * height)); };
  const GlyphBitmap line = LineThatFits(word, std::max(pixels(how.height), 1), width);
  const int left = std::min(pixels(how.left), width - line.width);
  const int top = std::max(std::min(pixels(how.top), height - line.height), 0);
  std::vector<float> coverage(static_cast<size_t>(height) * width, 0);
  for (int y = 0; y < std::min(line.height, height - top); ++y) {
    for (int x = 0; x < line.width; ++x) {
      coverage[static_cast<size_t>(top + y) * width + left + x] =
          line.rgba[(static_cast<size_t>(y) * line.width + x) * 4 + 3] / 255;
    }
  }
  const at::Tensor share =
      (at::tensor(coverage).view({height, width}) * how.opacity).to(pictures.device());
  const at::Tensor blue = at::tensor({0.f, 0.f, 1.f}).view({3, 1, 1}).to(pictures.device());
  return pictures * (1 - share) + blue * share;
}

}  // namespace excise
