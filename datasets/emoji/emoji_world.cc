#include "datasets/emoji/emoji_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <mutex>

#include "core/data_file.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/input_files.h"
#include "core/text.h"
#include "datasets/emoji/emoji_annotations.h"
#include "datasets/emoji/emoji_captions.h"
#include "datasets/emoji/emoji_draw.h"
#include "datasets/emoji/emoji_garbage.h"
#include "datasets/emoji/emoji_glyphs.h"

namespace excise {

struct EmojiWorld::Impl {
  // Which backgrounds suit a class, by style. Looked at when somebody asks: a table's prompts ask
  // for few classes, and all of them take a quarter of a stored table's time.
  struct Suits {
    std::once_flag once;
    std::vector<bool> by_style[kNumStyles];
  };
  std::vector<EmojiClass> classes;
  std::vector<Background> backgrounds;
  std::vector<std::vector<GlyphBitmap>> colour;  // [class][variant]
  std::vector<GlyphBitmap> line;                 // [class]
  mutable std::vector<Suits> suits;              // [class]
  std::vector<std::pair<std::string, std::string>> inputs;
};

namespace {

constexpr double kPlainShare = .84, kSepiaShare = .10;
constexpr double kFirstVariant = .6;  // share of the first glyph where a class has several
constexpr int kLinePixels = 150;
constexpr double kLineBold = 2.5;

// Debian 12 (bookworm).
constexpr KnownFile kColourFont = {
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "e5899ed38b8ed83e08bd3ac5de09791e9d19d288333a796de1d35ad17396f1ec",
    "fonts-noto-color-emoji 2.042-0+deb12u1"};
constexpr const char* kAnnotations = "/usr/share/unicode/cldr/common/annotations";
constexpr const char* kCldr = "unicode-cldr-core 41-0.1";
constexpr KnownFile kLanguageFiles[] = {
    {"en.xml", "170a989b9aff71fd06b9f7bbd70aa3b4a3d228e15fa734692d4fc80206e536e1", kCldr},
    {"de.xml", "78419101e21067a1e82bd9b692a7a6b64d16ad30190e13cf41924b678783a561", kCldr},
    {"es.xml", "aa9a18fe24beb27c233c19dec7ca7a06ac01e1b591e61129c5d48947aa36e887", kCldr},
    {"fr.xml", "75bee7a6d888550a902ad26a6f022fc248d72d524a75eed681edb61a8fd507fe", kCldr},
    {"it.xml", "c0ab0259e2d1e46b4908c1552e018ee30d5c0038a4a5d85aa50de9585596430a", kCldr},
    {"nl.xml", "8fea182c42cdb48baec7b8306d39adbb96aeff2e50a3052943a7d9d0b9347452", kCldr},
    {"pt.xml", "354dd496efab828c816ec39c0ffdb6774ca49f8e778b97136ac0be3d3b35fa54", kCldr},
};

std::vector<Background> Backgrounds() {
  return {{"white", {238, 238, 238}}, {"black", {16, 16, 18}},   {"red", {205, 50, 50}},
          {"yellow", {236, 208, 80}}, {"green", {55, 140, 80}},  {"blue", {62, 112, 200}},
          {"pink", {238, 165, 190}},  {"brown", {122, 82, 52}},  {"gray", {132, 132, 132}},
          {"orange", {236, 138, 45}}, {"purple", {122, 70, 160}}};
}

// How much of the glyph is too close to the background to be seen, 0 to 1. Dark ink on tinted paper
// always shows.
double HiddenShare(const GlyphBitmap& glyph, const Background& background, SceneStyle style) {
  if (style == SceneStyle::kLine) return 0;
  const bool sepia = style == SceneStyle::kSepia;
  const float near = sepia ? 45 : 80;
  auto seen = [&](float r, float g, float b) {
    return sepia ? SepiaOf({r, g, b}) : std::array<float, 3>{r, g, b};
  };
  const std::array<float, 3> paper = seen(background.rgb[0], background.rgb[1], background.rgb[2]);
  double hidden = 0, all = 0;
  for (size_t i = 0; i < glyph.rgba.size(); i += 4) {
    const float* p = glyph.rgba.data() + i;
    if (p[3] < 128) continue;
    const float whole = 255.f / p[3];
    const std::array<float, 3> ink = seen(p[0] * whole, p[1] * whole, p[2] * whole);
    float distance = 0;
    for (int c = 0; c < 3; ++c) distance += (ink[c] - paper[c]) * (ink[c] - paper[c]);
    all += 1;
    hidden += distance < near * near ? 1 : 0;
  }
  return hidden / all;
}

// Which backgrounds let most of the glyph be seen.
std::vector<bool> SuitingBackgrounds(const GlyphBitmap& glyph,
                                     const std::vector<Background>& backgrounds, SceneStyle style) {
  constexpr double kMostHidden = .45;
  std::vector<bool> suits;
  for (const Background& background : backgrounds) {
    suits.push_back(HiddenShare(glyph, background, style) < kMostHidden);
  }
  return suits;
}

}  // namespace

EmojiWorld::EmojiWorld(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
EmojiWorld::~EmojiWorld() = default;

std::shared_ptr<const EmojiWorld> EmojiWorld::Load() {
  auto impl = std::make_shared<Impl>();
  std::vector<std::pair<std::filesystem::path, std::string>> read;
  auto remember = [&](const std::filesystem::path& path, const std::string& digest) {
    impl->inputs.emplace_back(path.filename().string(), digest);
    read.emplace_back(path, digest);
  };
  for (const KnownFile& font : {kColourFont, kLineFont}) {
    remember(font.path, CheckedDigest(font.path, font.sha256, font.package));
  }
  for (const KnownFile& file : kLanguageFiles) {
    const std::filesystem::path path = std::filesystem::path(kAnnotations) / file.path;
    remember(path, CheckedDigest(path, file.sha256, file.package));
  }
  const std::filesystem::path list = DataFile("datasets/emoji_classes.json");
  remember(list, Sha256HexOfFile(list));
  impl->classes = LoadEmojiClasses(list, kAnnotations);
  impl->backgrounds = Backgrounds();
  const GlyphFont colour(kColourFont.path, 0);
  const GlyphFont line(kLineFont.path, kLinePixels);
  for (const EmojiClass& one : impl->classes) {
    std::vector<GlyphBitmap> variants;
    for (const std::string& glyph : one.glyphs) variants.push_back(colour.Draw(glyph));
    // Line drawings have no skin tones, which follow the first character.
    impl->line.push_back(line.Draw(std::string(FirstCharacters(one.glyphs[0], 1)), kLineBold));
    impl->colour.push_back(std::move(variants));
  }
  impl->suits = std::vector<Impl::Suits>(impl->classes.size());
  for (const auto& [path, digest] : read) RequireSha256(path, digest);
  return std::make_shared<EmojiWorld>(std::move(impl));
}

const std::vector<EmojiClass>& EmojiWorld::classes() const { return impl_->classes; }
const std::vector<Background>& EmojiWorld::backgrounds() const { return impl_->backgrounds; }
std::vector<std::pair<std::string, std::string>> EmojiWorld::Inputs() const {
  return impl_->inputs;
}

int EmojiWorld::ClassIndex(std::string_view id) const {
  std::vector<std::string> known;
  for (size_t i = 0; i < impl_->classes.size(); ++i) {
    if (impl_->classes[i].id == id) return static_cast<int>(i);
    known.push_back(impl_->classes[i].id);
  }
  throw UsageError(
      fmt::format("Unknown emoji class '{}'.{} The classes are listed in "
                  "datasets/emoji_classes.json.",
                  id, DidYouMean(id, known)));
}

int EmojiWorld::ClassNamed(std::string_view word) const {
  const std::string lower = LowerAscii(word);
  auto holds = [&](const std::vector<std::string>& list) {
    return std::any_of(list.begin(), list.end(),
                       [&](const std::string& one) { return LowerAscii(one) == lower; });
  };
  int other = -1, count = 0;
  for (size_t i = 0; i < impl_->classes.size(); ++i) {
    const EmojiClass& one = impl_->classes[i];
    if (one.id == word || LowerAscii(one.name) == lower) return static_cast<int>(i);
    if (holds(one.foreign_names) || holds(one.keywords)) {
      other = static_cast<int>(i);
      ++count;
    }
  }
  return count == 1 ? other : -1;
}

bool EmojiWorld::BackgroundSuits(int emoji, int background, SceneStyle style) const {
  Impl::Suits& suits = impl_->suits.at(emoji);
  std::call_once(suits.once, [&] {
    for (int one = 0; one < kNumStyles; ++one) {
      suits.by_style[one] = SuitingBackgrounds(impl_->colour.at(emoji)[0], impl_->backgrounds,
                                               static_cast<SceneStyle>(one));
    }
  });
  return suits.by_style[static_cast<int>(style)].at(background);
}

Scene EmojiWorld::SampleScene(Philox& rng, int emoji) const {
  Scene scene;
  scene.emoji = emoji >= 0 ? emoji : static_cast<int>(rng.Below(impl_->classes.size()));
  const EmojiClass& subject = impl_->classes.at(scene.emoji);
  const double style = rng.Uniform();
  scene.style = style < kPlainShare                 ? SceneStyle::kPlain
                : style < kPlainShare + kSepiaShare ? SceneStyle::kSepia
                                                    : SceneStyle::kLine;
  if (subject.glyphs.size() > 1 && rng.Uniform() > kFirstVariant) {
    scene.variant = 1 + static_cast<int>(rng.Below(subject.glyphs.size() - 1));
  }
  do {
    scene.background = static_cast<int>(rng.Below(impl_->backgrounds.size()));
  } while (!BackgroundSuits(scene.emoji, scene.background, scene.style));
  scene.size = static_cast<float>(rng.Uniform(46, 54));
  scene.dx = static_cast<float>(rng.Uniform(-3, 3));
  scene.dy = static_cast<float>(rng.Uniform(-3, 3));
  scene.mirror = subject.mirror && rng.Below(2) == 1;
  scene.hue = static_cast<float>(rng.Uniform(-8, 8));
  scene.gain = static_cast<float>(rng.Uniform(.9, 1.1));
  for (uint8_t& value : scene.jitter) value = static_cast<uint8_t>(rng.Below(17));
  return scene;
}

Image8 EmojiWorld::Render(const Scene& scene) const {
  const GlyphBitmap& glyph = scene.style == SceneStyle::kLine
                                 ? impl_->line.at(scene.emoji)
                                 : impl_->colour.at(scene.emoji).at(scene.variant);
  return ToImage8(DrawScene(glyph, scene, impl_->backgrounds.at(scene.background)));
}

std::string EmojiWorld::Caption(const Scene& scene, Philox& rng, CaptionPart part) const {
  return PlanCaption(impl_->classes.at(scene.emoji), scene.style,
                     impl_->backgrounds.at(scene.background).name, rng, part)
      .text;
}

Image8 EmojiWorld::RenderGarbage(Philox& rng) const {
  std::vector<int> used;
  auto draw = [&] {
    int emoji;
    do {
      emoji = static_cast<int>(rng.Below(impl_->classes.size()));
    } while (std::find(used.begin(), used.end(), emoji) != used.end());
    used.push_back(emoji);
    Scene scene = SampleScene(rng, emoji);
    while (scene.style != SceneStyle::kPlain) scene = SampleScene(rng, emoji);
    const Image8 image = Render(scene);
    return FloatImage(image.pixels.begin(), image.pixels.end());
  };
  const auto kind = static_cast<GarbageKind>(rng.Below(kNumGarbageKinds));
  return ToImage8(DrawGarbage(kind, rng, draw));
}

}  // namespace excise
