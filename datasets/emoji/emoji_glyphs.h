// Glyph bitmaps: sequences are shaped by HarfBuzz (skin tones are ligatures), drawn by FreeType.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace excise {

// Cropped to what is visible. Premultiplied RGBA with whole values 0-255, rows from the top; kept
// as float because drawing filters it as such.
struct GlyphBitmap {
  int width = 0, height = 0;
  std::vector<float> rgba;
};

class GlyphFont {
 public:
  // Colour fonts use their fixed strike (136 x 128 pixels in Noto Color Emoji); outline fonts are
  // drawn `pixels` high. Throws Error naming the file.
  GlyphFont(const std::filesystem::path& file, int pixels);
  ~GlyphFont();

  // The picture of a UTF-8 sequence. Outlines are drawn black, thickened by `bold` pixels. Throws
  // Error when the font has no glyph for it, or needs more than one (a missing ligature).
  GlyphBitmap Draw(const std::string& sequence, double bold = 0) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace excise
