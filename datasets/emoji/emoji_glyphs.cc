#include "datasets/emoji/emoji_glyphs.h"

#include <fmt/format.h>
#include <ft2build.h>
#include <hb-ft.h>
#include <hb.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/text.h"

namespace excise {

struct GlyphFont::State {
  std::string file;
  FT_Library library = nullptr;
  FT_Face face = nullptr;
  hb_font_t* font = nullptr;

  ~State() {
    if (font != nullptr) hb_font_destroy(font);
    if (face != nullptr) FT_Done_Face(face);
    if (library != nullptr) FT_Done_FreeType(library);
  }
};

namespace {

constexpr int kLoadFlags = FT_LOAD_COLOR | FT_LOAD_NO_HINTING;

void CheckFreeType(FT_Error code, const std::string& file, const char* what) {
  if (code == 0) return;
  throw Error(
      fmt::format("{}: FreeType could not {} (code {}). The file is probably damaged; "
                  "reinstall the package it belongs to.",
                  file, what, code));
}

GlyphBitmap ToRgba(const FT_Bitmap& bitmap) {
  GlyphBitmap out;
  out.width = static_cast<int>(bitmap.width);
  out.height = static_cast<int>(bitmap.rows);
  out.rgba.assign(static_cast<size_t>(out.width) * out.height * 4, 0);
  for (int y = 0; y < out.height; ++y) {
    const uint8_t* row = bitmap.buffer + static_cast<ptrdiff_t>(y) * bitmap.pitch;
    float* to = out.rgba.data() + static_cast<size_t>(y) * out.width * 4;
    for (int x = 0; x < out.width; ++x, to += 4) {
      if (bitmap.pixel_mode == FT_PIXEL_MODE_BGRA) {
        to[0] = row[4 * x + 2];
        to[1] = row[4 * x + 1];
        to[2] = row[4 * x];
        to[3] = row[4 * x + 3];
      } else {
        to[3] = row[x];  // black ink: colour stays 0
      }
    }
  }
  return out;
}

GlyphBitmap Crop(const GlyphBitmap& in) {
  int left = in.width, right = -1, top = in.height, bottom = -1;
  for (int y = 0; y < in.height; ++y) {
    for (int x = 0; x < in.width; ++x) {
      if (in.rgba[(static_cast<size_t>(y) * in.width + x) * 4 + 3] < 8) continue;
      left = std::min(left, x);
      right = std::max(right, x);
      top = std::min(top, y);
      bottom = std::max(bottom, y);
    }
  }
  GlyphBitmap out;
  if (right < left) return out;
  out.width = right - left + 1;
  out.height = bottom - top + 1;
  for (int y = top; y <= bottom; ++y) {
    const auto row = in.rgba.begin() + (static_cast<ptrdiff_t>(y) * in.width + left) * 4;
    out.rgba.insert(out.rgba.end(), row, row + static_cast<ptrdiff_t>(out.width) * 4);
  }
  return out;
}

struct Glyph {
  uint32_t id = 0;             // 0: the font has none
  uint32_t byte = 0;           // where its character starts in the text
  hb_position_t x = 0, y = 0;  // of its origin on the line, in 1/64 pixels; y upwards
};

// The glyphs of a sequence, variation selectors and joiners left out.
std::vector<Glyph> Shape(hb_font_t* font, const std::string& sequence) {
  hb_buffer_t* buffer = hb_buffer_create();
  hb_buffer_add_utf8(buffer, sequence.data(), static_cast<int>(sequence.size()), 0, -1);
  hb_buffer_guess_segment_properties(buffer);
  hb_buffer_set_flags(buffer, HB_BUFFER_FLAG_REMOVE_DEFAULT_IGNORABLES);
  hb_shape(font, buffer, nullptr, 0);
  unsigned count = 0;
  const hb_glyph_info_t* infos = hb_buffer_get_glyph_infos(buffer, &count);
  const hb_glyph_position_t* places = hb_buffer_get_glyph_positions(buffer, &count);
  std::vector<Glyph> glyphs;
  hb_position_t x = 0, y = 0;
  for (unsigned i = 0; i < count; ++i) {
    glyphs.push_back(
        {infos[i].codepoint, infos[i].cluster, x + places[i].x_offset, y + places[i].y_offset});
    x += places[i].x_advance;
    y += places[i].y_advance;
  }
  hb_buffer_destroy(buffer);
  return glyphs;
}

// What one glyph puts on a line whose baseline is at the row `baseline`.
struct Ink {
  GlyphBitmap bitmap;
  int left = 0, top = 0;
};

Ink DrawOnLine(FT_Face face, const Glyph& glyph, int baseline, const std::string& file) {
  CheckFreeType(FT_Load_Glyph(face, glyph.id, kLoadFlags), file, "load a glyph");
  // Whole pixels move the bitmap; the rest moves the outline, or letters stand unevenly.
  if (face->glyph->format == FT_GLYPH_FORMAT_OUTLINE) {
    FT_Outline_Translate(&face->glyph->outline, glyph.x & 63, glyph.y & 63);
  }
  CheckFreeType(FT_Render_Glyph(face->glyph, FT_RENDER_MODE_NORMAL), file, "draw a glyph");
  return {ToRgba(face->glyph->bitmap), (glyph.x >> 6) + face->glyph->bitmap_left,
          baseline - (glyph.y >> 6) - face->glyph->bitmap_top};
}

}  // namespace

GlyphFont::GlyphFont(const std::filesystem::path& file, int pixels)
    : state_(std::make_unique<State>()) {
  state_->file = file.string();
  CheckFreeType(FT_Init_FreeType(&state_->library), state_->file, "be started");
  CheckFreeType(FT_New_Face(state_->library, state_->file.c_str(), 0, &state_->face), state_->file,
                "open the font");
  if (FT_IS_SCALABLE(state_->face) != 0) {
    CheckFreeType(FT_Set_Pixel_Sizes(state_->face, 0, pixels), state_->file, "set the size");
  } else {
    CheckFreeType(FT_Select_Size(state_->face, 0), state_->file, "select its bitmap size");
  }
  state_->font = hb_ft_font_create(state_->face, nullptr);
  hb_ft_font_set_load_flags(state_->font, kLoadFlags);
}

GlyphFont::~GlyphFont() = default;

GlyphBitmap GlyphFont::Draw(const std::string& sequence, double bold) const {
  const std::vector<Glyph> glyphs = Shape(state_->font, sequence);
  if (glyphs.size() != 1 || glyphs[0].id == 0) {
    throw Error(
        fmt::format("{}: no single glyph for '{}' ({} found). The font is another version, "
                    "or the sequence in datasets/emoji_classes.json is wrong.",
                    state_->file, sequence, glyphs.size()));
  }
  FT_Face face = state_->face;
  CheckFreeType(FT_Load_Glyph(face, glyphs[0].id, kLoadFlags), state_->file, "load a glyph");
  if (face->glyph->format == FT_GLYPH_FORMAT_OUTLINE && bold > 0) {
    CheckFreeType(
        FT_Outline_Embolden(&face->glyph->outline, static_cast<FT_Pos>(bold * 64.0 + 0.5)),
        state_->file, "thicken a glyph");
  }
  if (face->glyph->format != FT_GLYPH_FORMAT_BITMAP) {
    CheckFreeType(FT_Render_Glyph(face->glyph, FT_RENDER_MODE_NORMAL), state_->file,
                  "draw a glyph");
  }
  GlyphBitmap out = Crop(ToRgba(face->glyph->bitmap));
  if (out.width == 0) {
    throw Error(fmt::format("{}: the glyph of '{}' is empty.", state_->file, sequence));
  }
  return out;
}

GlyphBitmap GlyphFont::DrawLine(const std::string& text) const {
  const FT_Size_Metrics& metrics = state_->face->size->metrics;
  const int baseline = static_cast<int>((metrics.ascender + 63) >> 6);
  std::vector<Ink> letters;
  int left = std::numeric_limits<int>::max(), right = std::numeric_limits<int>::min();
  for (const Glyph& glyph : Shape(state_->font, text)) {
    if (glyph.id == 0) {
      throw Error(fmt::format("{}: no glyph for '{}' in '{}'. Use characters that the font has.",
                              state_->file, FirstCharacters(text.substr(glyph.byte), 1), text));
    }
    Ink ink = DrawOnLine(state_->face, glyph, baseline, state_->file);
    if (ink.bitmap.width == 0) continue;  // a space
    left = std::min(left, ink.left);
    right = std::max(right, ink.left + ink.bitmap.width);
    letters.push_back(std::move(ink));
  }
  if (letters.empty()) {
    throw Error(fmt::format("'{}' has nothing to draw: it is empty, or spaces alone.", text));
  }
  GlyphBitmap line;
  line.width = right - left;
  line.height = baseline + static_cast<int>((63 - metrics.descender) >> 6);
  line.rgba.assign(static_cast<size_t>(line.width) * line.height * 4, 0);
  for (const Ink& ink : letters) {
    for (int y = 0; y < ink.bitmap.height; ++y) {
      const int row = ink.top + y;
      if (row < 0 || row >= line.height) continue;
      for (int x = 0; x < ink.bitmap.width; ++x) {
        const float from = ink.bitmap.rgba[(static_cast<size_t>(y) * ink.bitmap.width + x) * 4 + 3];
        const size_t to = static_cast<size_t>(row) * line.width + ink.left - left + x;
        line.rgba[to * 4 + 3] = std::max(line.rgba[to * 4 + 3], from);  // where letters touch
      }
    }
  }
  return line;
}

}  // namespace excise
