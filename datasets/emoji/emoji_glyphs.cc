#include "datasets/emoji/emoji_glyphs.h"

#include <fmt/format.h>
#include <ft2build.h>
#include <hb-ft.h>
#include <hb.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H

#include <algorithm>

#include "core/error.h"

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

// The glyph ids of a sequence, variation selectors and joiners left out.
std::vector<uint32_t> Shape(hb_font_t* font, const std::string& sequence) {
  hb_buffer_t* buffer = hb_buffer_create();
  hb_buffer_add_utf8(buffer, sequence.data(), static_cast<int>(sequence.size()), 0, -1);
  hb_buffer_guess_segment_properties(buffer);
  hb_buffer_set_flags(buffer, HB_BUFFER_FLAG_REMOVE_DEFAULT_IGNORABLES);
  hb_shape(font, buffer, nullptr, 0);
  unsigned count = 0;
  const hb_glyph_info_t* infos = hb_buffer_get_glyph_infos(buffer, &count);
  std::vector<uint32_t> glyphs;
  for (unsigned i = 0; i < count; ++i) glyphs.push_back(infos[i].codepoint);
  hb_buffer_destroy(buffer);
  return glyphs;
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
  const std::vector<uint32_t> glyphs = Shape(state_->font, sequence);
  if (glyphs.size() != 1 || glyphs[0] == 0) {
    throw Error(
        fmt::format("{}: no single glyph for '{}' ({} found). The font is another version, "
                    "or the sequence in datasets/emoji_classes.json is wrong.",
                    state_->file, sequence, glyphs.size()));
  }
  FT_Face face = state_->face;
  CheckFreeType(FT_Load_Glyph(face, glyphs[0], kLoadFlags), state_->file, "load a glyph");
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

}  // namespace excise
