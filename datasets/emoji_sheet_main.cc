// emoji_sheet OUT.png [garbage]: a contact sheet of every class (each row four classes: its glyph
// variants plain, then sepia and line), or of garbage, to be looked at.
#include <fmt/format.h>
#include <png.h>

#include <cstring>

#include "core/error.h"
#include "core/progress.h"
#include "datasets/emoji/emoji_world.h"

namespace excise {
namespace {

class Sheet {
 public:
  Sheet(int columns, int rows)
      : width_(columns * kSceneSize),
        height_(rows * kSceneSize),
        rgb_(3ul * width_ * height_, 255) {}

  void Put(int column, int row, const Image8& image) {
    constexpr int kPlane = kSceneSize * kSceneSize;
    for (int i = 0; i < kPlane; ++i) {
      const size_t x = static_cast<size_t>(column) * kSceneSize + i % kSceneSize;
      const size_t y = static_cast<size_t>(row) * kSceneSize + i / kSceneSize;
      for (int c = 0; c < 3; ++c) rgb_[3 * (y * width_ + x) + c] = image.pixels[c * kPlane + i];
    }
  }

  void Write(const char* path) const {
    png_image header;
    std::memset(&header, 0, sizeof header);
    header.version = PNG_IMAGE_VERSION;
    header.width = width_;
    header.height = height_;
    header.format = PNG_FORMAT_RGB;
    if (png_image_write_to_file(&header, path, 0, rgb_.data(), 0, nullptr) == 0) {
      throw Error(fmt::format("{}: cannot be written ({}).", path, header.message));
    }
  }

 private:
  int width_, height_;
  std::vector<uint8_t> rgb_;
};

void DrawClasses(const EmojiWorld& world, const char* path) {
  constexpr int kAcross = 4, kCells = 5;  // plain, plain, another variant, sepia, line
  const int n = static_cast<int>(world.classes().size());
  Sheet sheet(kAcross * kCells, (n + kAcross - 1) / kAcross);
  for (int i = 0; i < n; ++i) {
    Philox rng({.seed = 1, .id = world.classes()[i].id, .stream = Stream::kData});
    for (int cell = 0; cell < kCells; ++cell) {
      const SceneStyle style = cell == 3   ? SceneStyle::kSepia
                               : cell == 4 ? SceneStyle::kLine
                                           : SceneStyle::kPlain;
      Scene scene = world.SampleScene(rng, i);
      while (scene.style != style) scene = world.SampleScene(rng, i);
      scene.variant = cell == 2 ? static_cast<int>(world.classes()[i].glyphs.size()) - 1 : 0;
      sheet.Put(i % kAcross * kCells + cell, i / kAcross, world.Render(scene));
    }
  }
  sheet.Write(path);
}

void DrawGarbageSheet(const EmojiWorld& world, const char* path) {
  constexpr int kSide = 14;
  Sheet sheet(kSide, kSide);
  Philox rng({.seed = 1, .id = "garbage", .stream = Stream::kData});
  for (int i = 0; i < kSide * kSide; ++i) {
    sheet.Put(i % kSide, i / kSide, world.RenderGarbage(rng));
  }
  sheet.Write(path);
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: emoji_sheet OUT.png [garbage]\n");
    return 2;
  }
  try {
    const auto world = excise::EmojiWorld::Load();
    if (argc > 2 && std::strcmp(argv[2], "garbage") == 0) {
      excise::DrawGarbageSheet(*world, argv[1]);
    } else {
      excise::DrawClasses(*world, argv[1]);
    }
  } catch (const excise::Error& e) {
    excise::LogInfo(e.what());
    return 1;
  }
  return 0;
}
