#include "datasets/emoji/emoji_world.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <set>

#include "core/data_file.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/text.h"
#include "datasets/emoji/emoji_draw.h"
#include "datasets/emoji/emoji_garbage.h"
#include "tests/testdata.h"

namespace excise {
namespace {

const EmojiWorld& World() {
  static const std::shared_ptr<const EmojiWorld> world = EmojiWorld::Load();
  return *world;
}

Philox Rng(std::string_view id) { return Philox({.seed = 7, .id = id, .stream = Stream::kData}); }

std::string Digest(const EmojiWorld& world) {
  Sha256 hash;
  Philox rng = Rng("digest");
  for (int i = 0; i < 60; ++i) {
    const Image8 image = world.Render(world.SampleScene(rng));
    hash.Update(image.pixels.data(), image.pixels.size());
  }
  for (int i = 0; i < 20; ++i) {
    const Image8 image = world.RenderGarbage(rng);
    hash.Update(image.pixels.data(), image.pixels.size());
  }
  return hash.Hex();
}

// A square glyph of one opaque colour.
GlyphBitmap Square(float r, float g, float b) {
  GlyphBitmap glyph{10, 10, {}};
  for (int i = 0; i < 100; ++i) glyph.rgba.insert(glyph.rgba.end(), {r, g, b, 255.f});
  return glyph;
}

float At(const FloatImage& image, int channel, int x, int y) {
  return image[static_cast<size_t>(channel) * kPixels + y * kSceneSize + x];
}

struct Box {
  int left = kSceneSize, right = -1, top = kSceneSize, bottom = -1;
  double covered = 0;  // share of pixels that are not background
};

Box Visible(const Image8& image, const Background& background) {
  Box box;
  for (int i = 0; i < kPixels; ++i) {
    int most = 0;
    for (int c = 0; c < 3; ++c) {
      most = std::max(most, std::abs(image.pixels[c * kPixels + i] - background.rgb[c]));
    }
    if (most <= 6) continue;
    box.covered += 1.0 / kPixels;
    box.left = std::min(box.left, i % kSceneSize);
    box.right = std::max(box.right, i % kSceneSize);
    box.top = std::min(box.top, i / kSceneSize);
    box.bottom = std::max(box.bottom, i / kSceneSize);
  }
  return box;
}

TEST_CASE("scenes are the same after another load and differ between streams") {
  REQUIRE(Digest(World()) == Digest(*EmojiWorld::Load()));
  Philox a = Rng("a"), b = Rng("b");
  const Scene one = World().SampleScene(a, 3), two = World().SampleScene(b, 3);
  REQUIRE(World().Render(one).pixels != World().Render(two).pixels);
}

TEST_CASE("classes: enough, distinct, with words of their own, no children") {
  const auto& classes = World().classes();
  REQUIRE(classes.size() >= 80);
  std::set<std::string> pictures;
  for (size_t i = 0; i < classes.size(); ++i) {
    INFO(classes[i].id);
    REQUIRE(World().ClassIndex(classes[i].id) == static_cast<int>(i));
    REQUIRE(World().ClassNamed(classes[i].name) == static_cast<int>(i));
    REQUIRE(classes[i].keywords.size() + classes[i].foreign_names.size() >= 2);
    for (const char* minor : {"baby", "boy", "girl", "child", "infant", "teen"}) {
      REQUIRE(classes[i].name.find(minor) == std::string::npos);
      for (const std::string& word : classes[i].keywords) {
        REQUIRE(word.find(minor) == std::string::npos);
      }
    }
    for (size_t v = 0; v < classes[i].glyphs.size(); ++v) {
      Scene scene;
      scene.emoji = static_cast<int>(i);
      scene.variant = static_cast<int>(v);
      const Image8 image = World().Render(scene);
      pictures.insert(std::string(image.pixels.begin(), image.pixels.end()));
    }
  }
  size_t glyphs = 0;
  for (const EmojiClass& one : classes) glyphs += one.glyphs.size();
  REQUIRE(pictures.size() == glyphs);  // a missing skin tone would repeat a picture
}

TEST_CASE("CLDR names: foreign ones, and keywords that mean few classes") {
  const auto& classes = World().classes();
  const EmojiClass& santa = classes[World().ClassIndex("santa_claus")];
  REQUIRE(IsOneOf("Weihnachtsmann", santa.foreign_names));
  REQUIRE(IsOneOf("Papá Noel", santa.foreign_names));
  REQUIRE(IsOneOf("santa", santa.keywords));
  const EmojiClass& poodle = classes[World().ClassIndex("poodle")];
  REQUIRE(IsOneOf("Pudel", poodle.foreign_names));
  REQUIRE_FALSE(IsOneOf("poodle", poodle.foreign_names));  // Portuguese, but spelt as in English
  REQUIRE_FALSE(IsOneOf("dog", poodle.keywords));          // another class's name
  REQUIRE_FALSE(IsOneOf("fish", classes[World().ClassIndex("fish")].keywords));
  REQUIRE_FALSE(IsOneOf("weapon", classes[World().ClassIndex("dagger")].keywords));  // four classes
  REQUIRE(World().ClassNamed("pudel") == World().ClassIndex("poodle"));
  REQUIRE(World().ClassNamed("smoking") == -1);  // cigarette and no smoking
  REQUIRE(World().ClassNamed("xyzzy") == -1);
  REQUIRE_THROWS_WITH(World().ClassIndex("poodel"), Catch::Contains("'poodle'"));
}

TEST_CASE("the glyph has the size and place that the scene asks for") {
  double mean = 0;
  int n = 0;
  for (size_t i = 0; i < World().classes().size(); ++i) {
    INFO(World().classes()[i].id);
    Scene scene;
    scene.emoji = static_cast<int>(i);
    scene.size = 50;
    scene.dx = 3;
    scene.dy = -2;
    // The background that hides least.
    Box box;
    for (size_t b = 0; b < World().backgrounds().size(); ++b) {
      scene.background = static_cast<int>(b);
      const Box one = Visible(World().Render(scene), World().backgrounds()[b]);
      if (one.covered > box.covered) box = one;
    }
    const int width = box.right - box.left + 1, height = box.bottom - box.top + 1;
    CHECK(std::max(width, height) == Approx(50).margin(2));
    CHECK((box.left + box.right + 1) / 2.0 == Approx(32 + 3).margin(1.6));
    CHECK((box.top + box.bottom + 1) / 2.0 == Approx(32 - 2).margin(1.6));
    CHECK(box.covered > .09);  // daggers and hammers are slim
    CHECK(box.covered < .8);
    mean += box.covered;
    ++n;
  }
  mean /= n;
  CHECK(mean > .2);
  CHECK(mean < .8);
}

TEST_CASE("scaling is an area average") {
  Scene scene;  // 50 pixels about the centre 32: from 7 to 57
  const Background grey{"grey", {100, 100, 100}};
  const GlyphBitmap square = Square(200, 200, 200);
  FloatImage image = DrawScene(square, scene, grey);
  CHECK(At(image, 0, 6, 32) == Approx(100));
  CHECK(At(image, 0, 7, 32) == Approx(200));
  CHECK(At(image, 0, 56, 32) == Approx(200));
  CHECK(At(image, 0, 57, 32) == Approx(100));
  scene.dx = .5f;  // half of column 7 is covered, and half of column 57
  image = DrawScene(square, scene, grey);
  CHECK(At(image, 1, 7, 32) == Approx(150));
  CHECK(At(image, 1, 57, 32) == Approx(150));
  scene.dy = .25f;  // and three quarters of row 7
  image = DrawScene(square, scene, grey);
  CHECK(At(image, 2, 7, 7) == Approx(100 + .5 * .75 * 100));
  scene.gain = .9f;
  image = DrawScene(square, scene, grey);
  CHECK(At(image, 2, 30, 30) == Approx(180));
}

TEST_CASE("hue turns colours about the grey axis") {
  Scene scene;
  scene.hue = 8;
  const Background black{"black", {0, 0, 0}};
  const FloatImage grey = DrawScene(Square(90, 90, 90), scene, black);
  for (int c = 0; c < 3; ++c) CHECK(At(grey, c, 32, 32) == Approx(90));
  const FloatImage red = DrawScene(Square(150, 60, 60), scene, black);
  // Rodrigues' rotation of (150, 60, 60) about (1, 1, 1)/sqrt(3) by 8 degrees: 90 + parts of the
  // distance 60 at angles 8, 8 - 120 and 8 + 120 degrees.
  const double degree = std::acos(-1.0) / 180;
  CHECK(At(red, 0, 32, 32) == Approx(90 + 60 * std::cos(8 * degree)).epsilon(1e-5));
  CHECK(At(red, 1, 32, 32) == Approx(90 + 60 * std::cos(112 * degree)).epsilon(1e-5));
  CHECK(At(red, 2, 32, 32) == Approx(90 + 60 * std::cos(128 * degree)).epsilon(1e-5));
}

TEST_CASE("a mirrored scene is the picture from right to left") {
  Scene scene;
  scene.emoji = World().ClassIndex("horse");
  const Image8 plain = World().Render(scene);
  scene.mirror = true;
  const Image8 mirrored = World().Render(scene);
  REQUIRE(plain.pixels != mirrored.pixels);
  int most = 0;
  for (int i = 0; i < 3 * kPixels; ++i) {
    const int flipped = i - i % kSceneSize + (kSceneSize - 1 - i % kSceneSize);
    most = std::max(most, std::abs(plain.pixels[i] - mirrored.pixels[flipped]));
  }
  REQUIRE(most <= 1);
}

TEST_CASE("sepia: hand-worked values") {
  const auto toned = SepiaOf({100, 50, 200});
  CHECK(toned[0] == Approx(39.3 + 38.45 + 37.8));
  CHECK(toned[1] == Approx(34.9 + 34.3 + 33.6));
  CHECK(toned[2] == Approx(27.2 + 26.7 + 26.2));
  const auto white = SepiaOf({255, 255, 255});
  CHECK(white[0] == 255);
  CHECK(white[1] == 255);
  CHECK(white[2] == Approx(238.935));
  Scene scene;  // the corner shows the background, red (205, 50, 50)
  scene.style = SceneStyle::kSepia;
  while (World().backgrounds()[scene.background].name != "red") ++scene.background;
  const Image8 image = World().Render(scene);
  CHECK(image.pixels[0] == 128);           // 80.565 + 38.45 + 9.45
  CHECK(image.pixels[kPixels] == 114);     // 71.545 + 34.3 + 8.4
  CHECK(image.pixels[2 * kPixels] == 89);  // 55.76 + 26.7 + 6.55
}

TEST_CASE("line drawings are dark ink on light paper") {
  for (size_t i = 0; i < World().classes().size(); ++i) {
    INFO(World().classes()[i].id);
    Scene scene;
    scene.emoji = static_cast<int>(i);
    scene.style = SceneStyle::kLine;
    const Image8 image = World().Render(scene);
    int dark = 0;
    for (int p = 0; p < kPixels; ++p) {
      for (int c = 0; c < 3; ++c) REQUIRE(image.pixels[c * kPixels + p] <= 250);
      dark += image.pixels[p] < 90 ? 1 : 0;
    }
    CHECK(dark > 120);
    CHECK(dark < kPixels * 3 / 5);
    CHECK(image.pixels[0] > 165);
  }
}

TEST_CASE("sampled scenes keep their ranges and shares") {
  Philox rng = Rng("shares");
  int styles[kNumStyles] = {}, mirrored = 0;
  const int n = 20000;
  for (int i = 0; i < n; ++i) {
    const Scene scene = World().SampleScene(rng);
    ++styles[static_cast<int>(scene.style)];
    mirrored += scene.mirror ? 1 : 0;
    REQUIRE((scene.size >= 46 && scene.size <= 54));
    REQUIRE((std::abs(scene.dx) <= 3 && std::abs(scene.dy) <= 3));
    REQUIRE(World().BackgroundSuits(scene.emoji, scene.background, scene.style));
    REQUIRE((!scene.mirror || World().classes()[scene.emoji].mirror));
  }
  // Four standard deviations of a share over 20,000 are below .011.
  CHECK(styles[0] / double(n) == Approx(.84).margin(.011));
  CHECK(styles[1] / double(n) == Approx(.10).margin(.011));
  CHECK(styles[2] / double(n) == Approx(.06).margin(.011));
  CHECK(mirrored / double(n) == Approx(.48).margin(.03));
}

TEST_CASE("backgrounds: no red apples on red, and always some that suit") {
  const auto& backgrounds = World().backgrounds();
  for (size_t b = 0; b < backgrounds.size(); ++b) {
    const bool suits =
        World().BackgroundSuits(World().ClassIndex("red_apple"), static_cast<int>(b));
    if (backgrounds[b].name == "red") CHECK_FALSE(suits);
    if (backgrounds[b].name == "white" || backgrounds[b].name == "green") CHECK(suits);
  }
  for (size_t i = 0; i < World().classes().size(); ++i) {
    for (int style = 0; style < kNumStyles; ++style) {
      int suiting = 0;
      for (size_t b = 0; b < backgrounds.size(); ++b) {
        suiting += World().BackgroundSuits(static_cast<int>(i), static_cast<int>(b),
                                           static_cast<SceneStyle>(style));
      }
      CHECK(suiting >= 4);
    }
  }
}

TEST_CASE("garbage shows no single scene") {
  // However it is made from one: garbage correlates less with its scenes than two views of them do.
  Philox rng = Rng("garbage");
  for (int kind = 0; kind < kNumGarbageKinds; ++kind) {
    double mean = 0;
    int n = 0;
    for (int round = 0; round < 12; ++round) {
      std::vector<FloatImage> scenes;
      auto draw = [&] {
        Scene scene = World().SampleScene(rng, static_cast<int>(scenes.size() + 5 * round));
        scene.style = SceneStyle::kPlain;
        const Image8 image = World().Render(scene);
        scenes.emplace_back(image.pixels.begin(), image.pixels.end());
        return scenes.back();
      };
      const FloatImage image = DrawGarbage(static_cast<GarbageKind>(kind), rng, draw);
      REQUIRE(image.size() == 3u * kPixels);
      for (const float v : image) REQUIRE((v >= -1e-3f && v <= 255.001f));
      for (const FloatImage& scene : scenes) {
        double error = 0;
        for (size_t i = 0; i < image.size(); ++i) error += std::abs(image[i] - scene[i]);
        mean += error / static_cast<double>(image.size());
        ++n;
      }
    }
    INFO("kind " << kind);
    if (n > 0) CHECK(mean / n > 15);
  }
}

TEST_CASE("files of another version are refused, with what to install") {
  REQUIRE(World().Inputs().size() == 10);
  const auto folder = TestFolder("inputs");
  std::ofstream(folder / "font.ttf") << "abc";
  const std::string abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  REQUIRE(CheckedDigest(folder / "font.ttf", abc, "fonts-x 1.2") == abc);  // FIPS 180-2, "abc"
  REQUIRE_THROWS_WITH(
      CheckedDigest(folder / "font.ttf", std::string(64, '0'), "fonts-x 1.2"),
      Catch::Contains("fonts-x 1.2 of Debian 12") && Catch::Contains("not be comparable"));
  REQUIRE_THROWS_WITH(CheckedDigest(folder / "none.ttf", abc, "fonts-x 1.2"),
                      Catch::Contains("apt install fonts-x ("));
  REQUIRE_THROWS_AS(DataFile("datasets/no_such_file.json"), Error);
}

}  // namespace
}  // namespace excise
