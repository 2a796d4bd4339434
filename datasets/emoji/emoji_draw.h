// Pictures from glyph bitmaps, in float: box-filtered scaling, colour jitter, styles.
#pragma once

#include <array>
#include <vector>

#include "datasets/emoji/emoji_glyphs.h"
#include "datasets/emoji/emoji_world.h"

namespace excise {

constexpr int kPixels = kSceneSize * kSceneSize;

// Planar RGB, values 0-255.
using FloatImage = std::vector<float>;  // 3 * kPixels

// Draws `glyph` on the background `rgb` (0-255) as `scene` says; `ink` recolours it to a dark
// stroke. Then the style. Pure; no global state.
FloatImage DrawScene(const GlyphBitmap& glyph, const Scene& scene, const Background& background);

// The usual sepia matrix, clipped to 255: of one colour, and of every pixel.
std::array<float, 3> SepiaOf(const std::array<float, 3>& rgb);
void ApplySepia(FloatImage& image);

// Gaussian-like blur: three box blurs of the given radius in pixels, edges repeated.
void Blur(FloatImage& image, int radius);

// Rounds to the nearest value in 0-255.
Image8 ToImage8(const FloatImage& image);

}  // namespace excise
