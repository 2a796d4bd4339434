#include "datasets/emoji/emoji_draw.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace excise {
namespace {

constexpr float kInk[3] = {22, 22, 26};
constexpr float kLinePaper = .65f;  // share of white in the background of line drawings

// The source pixels that one output pixel covers, with weights that sum to the share of the output
// pixel that lies inside the glyph.
struct Taps {
  int first = 0;
  std::vector<float> weights;
};

// Box filter of `length` source pixels scaled by `scale` and centred at `centre` (output pixels).
std::array<Taps, kSceneSize> BoxTaps(int length, double scale, double centre, bool flip) {
  std::array<Taps, kSceneSize> taps;
  for (int out = 0; out < kSceneSize; ++out) {
    double from = (out - centre) / scale + length / 2.0;
    double to = (out + 1 - centre) / scale + length / 2.0;
    const double span = to - from;
    if (flip) {
      const double mirrored = length - to;
      to = length - from;
      from = mirrored;
    }
    from = std::max(from, 0.0);
    to = std::min(to, static_cast<double>(length));
    if (to <= from) continue;
    const int first = static_cast<int>(from);
    taps[out].first = first;
    for (int i = first; i < to; ++i) {
      const double covered = std::min(to, i + 1.0) - std::max(from, static_cast<double>(i));
      taps[out].weights.push_back(static_cast<float>(covered / span));
    }
  }
  return taps;
}

// One RGBA pixel in a vector register. The order of additions is written out, so every compiler and
// CPU gives the same bits.
typedef float Pixel __attribute__((vector_size(16)));

Pixel LoadPixel(const float* from) {
  Pixel out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

Pixel WeightedSum(const float* from, size_t stride, const std::vector<float>& weights) {
  Pixel sum = {0, 0, 0, 0};
  for (const float w : weights) {
    sum += w * LoadPixel(from);
    from += stride;
  }
  return sum;
}

// Interleaved premultiplied RGBA (0-255) of the whole scene.
std::vector<float> Scaled(const GlyphBitmap& glyph, const Scene& scene) {
  const double scale = scene.size / static_cast<double>(std::max(glyph.width, glyph.height));
  const double middle = kSceneSize / 2.0;
  const auto columns = BoxTaps(glyph.width, scale, middle + scene.dx, scene.mirror);
  const auto rows = BoxTaps(glyph.height, scale, middle + scene.dy, false);
  constexpr size_t kRow = static_cast<size_t>(kSceneSize) * 4;
  std::vector<float> narrow(static_cast<size_t>(glyph.height) * kRow, 0.f);
  for (int y = 0; y < glyph.height; ++y) {
    const float* row = glyph.rgba.data() + static_cast<size_t>(y) * glyph.width * 4;
    for (size_t x = 0; x < kSceneSize; ++x) {
      if (columns[x].weights.empty()) continue;
      const Pixel sum =
          WeightedSum(row + static_cast<size_t>(columns[x].first) * 4, 4, columns[x].weights);
      std::memcpy(narrow.data() + y * kRow + 4 * x, &sum, sizeof sum);
    }
  }
  std::vector<float> out(kSceneSize * kRow, 0.f);
  for (size_t y = 0; y < kSceneSize; ++y) {
    if (rows[y].weights.empty()) continue;
    const float* first = narrow.data() + rows[y].first * kRow;
    for (size_t x = 0; x < kSceneSize; ++x) {
      const Pixel sum = WeightedSum(first + 4 * x, kRow, rows[y].weights);
      std::memcpy(out.data() + y * kRow + 4 * x, &sum, sizeof sum);
    }
  }
  return out;
}

// Rotation about the grey axis. Angles are a few degrees: short Taylor series give the same bits on
// every CPU, which the C library's sine does not promise.
std::array<float, 9> HueMatrix(float degrees) {
  const double a = degrees * 3.14159265358979323846 / 180.0, a2 = a * a;
  const double s = a * (1 - a2 / 6 * (1 - a2 / 20 * (1 - a2 / 42)));
  const double c = 1 - a2 / 2 * (1 - a2 / 12 * (1 - a2 / 30 * (1 - a2 / 56)));
  const double grey = (1 - c) / 3, turn = s * 0.57735026918962576451;  // 1 / sqrt(3)
  const float d = static_cast<float>(c + grey), m = static_cast<float>(grey - turn),
              p = static_cast<float>(grey + turn);
  return {d, m, p, p, d, m, m, p, d};
}

}  // namespace

FloatImage DrawScene(const GlyphBitmap& glyph, const Scene& scene, const Background& background) {
  const std::vector<float> rgba = Scaled(glyph, scene);
  const bool line = scene.style == SceneStyle::kLine;
  const std::array<float, 9> hue = HueMatrix(scene.hue);
  float paper[3];
  for (int c = 0; c < 3; ++c) {
    paper[c] = std::min(255.f, static_cast<float>(background.rgb[c]) + scene.jitter[c]);
    if (line) paper[c] = kLinePaper * 255.f + (1 - kLinePaper) * paper[c];
  }
  FloatImage image(3 * kPixels);
  for (int i = 0; i < kPixels; ++i) {
    const float* in = rgba.data() + static_cast<size_t>(i) * 4;
    const float alpha = in[3] / 255.f;
    for (int c = 0; c < 3; ++c) {
      float colour;
      if (line) {
        colour = kInk[c] * scene.gain * alpha;
      } else {
        colour =
            scene.gain * (hue[3 * c] * in[0] + hue[3 * c + 1] * in[1] + hue[3 * c + 2] * in[2]);
        colour = std::min(std::max(colour, 0.f), in[3]);
      }
      image[static_cast<size_t>(c) * kPixels + i] = colour + (1 - alpha) * paper[c];
    }
  }
  if (scene.style == SceneStyle::kSepia) ApplySepia(image);
  return image;
}

std::array<float, 3> SepiaOf(const std::array<float, 3>& rgb) {
  constexpr float kMatrix[3][3] = {
      {.393f, .769f, .189f}, {.349f, .686f, .168f}, {.272f, .534f, .131f}};
  std::array<float, 3> out;
  for (int c = 0; c < 3; ++c) {
    const float v = kMatrix[c][0] * rgb[0] + kMatrix[c][1] * rgb[1] + kMatrix[c][2] * rgb[2];
    out[c] = std::min(255.f, v);
  }
  return out;
}

void ApplySepia(FloatImage& image) {
  for (int i = 0; i < kPixels; ++i) {
    const auto toned = SepiaOf({image[i], image[kPixels + i], image[2 * kPixels + i]});
    for (int c = 0; c < 3; ++c) image[static_cast<size_t>(c) * kPixels + i] = toned[c];
  }
}

void Blur(FloatImage& image, int radius) {
  if (radius <= 0) return;
  const float share = 1.f / static_cast<float>(2 * radius + 1);
  std::array<float, kSceneSize> line;
  auto at = [](int i) { return std::clamp(i, 0, kSceneSize - 1); };
  auto pass = [&](float* first, int stride) {
    float sum = 0;
    for (int i = 0; i < kSceneSize; ++i) line[i] = first[static_cast<ptrdiff_t>(i) * stride];
    for (int i = -radius; i <= radius; ++i) sum += line[at(i)];
    for (int i = 0; i < kSceneSize; ++i) {
      first[static_cast<ptrdiff_t>(i) * stride] = sum * share;
      sum += line[at(i + radius + 1)] - line[at(i - radius)];
    }
  };
  for (int round = 0; round < 3; ++round) {
    for (int c = 0; c < 3; ++c) {
      float* plane = image.data() + static_cast<size_t>(c) * kPixels;
      for (int k = 0; k < kSceneSize; ++k) pass(plane + static_cast<ptrdiff_t>(k) * kSceneSize, 1);
      for (int k = 0; k < kSceneSize; ++k) pass(plane + k, kSceneSize);
    }
  }
}

Image8 ToImage8(const FloatImage& image) {
  Image8 out;
  for (size_t i = 0; i < image.size(); ++i) {
    out.pixels[i] = static_cast<uint8_t>(std::clamp(image[i], 0.f, 255.f) + .5f);
  }
  return out;
}

}  // namespace excise
