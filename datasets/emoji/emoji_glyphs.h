// Glyph bitmaps: sequences are shaped by HarfBuzz (skin tones are ligatures), drawn by FreeType.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace excise {

// A file of the distribution that must be this version of it.
struct KnownFile {
  const char* path;
  const char* sha256;
  const char* package;
};

// Symbola of Debian 12: line drawings, and letters.
inline constexpr KnownFile kLineFont = {
    "/usr/share/fonts/truetype/ancient-scripts/Symbola_hint.ttf",
    "af8bd8cc9c808272034651cb5ebf6c38370ae536fe631eb89462f127f11e793f", "fonts-symbola 2.60-1.1"};

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
  // A line of text in black, the letters beside each other. As wide as its ink, and as high as any
  // line of the font: the letters of all lines stand at the same height. Throws Error when the font
  // lacks a character, or where there is no ink.
  GlyphBitmap DrawLine(const std::string& text) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace excise
