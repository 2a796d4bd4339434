// The emoji world: real pictures with real human-written names. Glyphs of Noto Color Emoji (and
// line drawings of Symbola) through HarfBuzz and FreeType; names, keywords and names in other
// languages from Unicode CLDR. Everything is a pure function of its Philox stream.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/random.h"

namespace excise {

constexpr int kSceneSize = 64;

// A class of picture ("poodle"), in the order of datasets/emoji_classes.json.
struct EmojiClass {
  std::string id;                          // file-safe: "tropical_fish"
  std::string name;                        // English CLDR name used in prompts: "tropical fish"
  std::string category;                    // category word: "animal"
  std::vector<std::string> glyphs;         // UTF-8 sequences, variants of skin tone and gender
  std::vector<std::string> keywords;       // English CLDR keywords that few classes share
  std::vector<std::string> foreign_names;  // CLDR names in other languages ("Pudel", "caniche")
  std::string article;                     // "a", "an" or "" (plurals, proper names)
  bool mirror = true;                      // still itself when mirrored
};

enum class SceneStyle : int { kPlain = 0, kSepia = 1, kLine = 2 };
constexpr int kNumStyles = 3;
// As prompts, judges and records call them.
constexpr const char* kStyleNames[kNumStyles] = {"plain", "sepia", "line"};
inline std::string StyleName(SceneStyle style) { return kStyleNames[static_cast<int>(style)]; }

struct Background {
  std::string name;  // "red"
  uint8_t rgb[3];
};

// One picture to be drawn.
struct Scene {
  int emoji = 0;    // class index
  int variant = 0;  // index into glyphs
  SceneStyle style = SceneStyle::kPlain;
  int background = 0;
  float size = 50;       // pixels, longer side of the glyph
  float dx = 0, dy = 0;  // offset from the centre, pixels
  bool mirror = false;
  float hue = 0, gain = 1;        // small colour jitter: hue shift in degrees, brightness factor
  uint8_t jitter[3] = {0, 0, 0};  // background colour jitter, added
};

struct Image8 {  // planar RGB
  std::vector<uint8_t> pixels = std::vector<uint8_t>(3 * kSceneSize * kSceneSize);
};

// Which captions a caption may use; see Caption().
enum class CaptionPart { kTrain, kTest };

class EmojiWorld {
 public:
  // Loads fonts and annotations from their Debian paths. Throws Error when a file is missing or its
  // SHA-256 is not the expected one, with what to install.
  static std::shared_ptr<const EmojiWorld> Load();

  const std::vector<EmojiClass>& classes() const;
  const std::vector<Background>& backgrounds() const;
  int ClassIndex(std::string_view id) const;  // throws UsageError with a suggestion
  // The only class that has this id, name, foreign name or keyword (case ignored), or -1 when no
  // class or more than one has it.
  int ClassNamed(std::string_view word) const;
  // Whether a glyph of the class stands out from this background (no red apples on red).
  bool BackgroundSuits(int emoji, int background, SceneStyle style = SceneStyle::kPlain) const;
  // {"NotoColorEmoji.ttf": sha256, ...}: font and annotation digests for model metadata.
  std::vector<std::pair<std::string, std::string>> Inputs() const;

  // A scene of `emoji` (or of a random class when negative), other choices drawn from `rng`.
  // Styles: 84 % plain, 10 % sepia, 6 % line.
  Scene SampleScene(Philox& rng, int emoji = -1) const;
  Image8 Render(const Scene& scene) const;  // thread-safe

  // A caption of the scene: name, keywords only (>= 25 %), another language's name (~20 %), typos
  // (5-10 %), category words; background and style sometimes left out. (template x background x
  // style) combinations of the two parts are disjoint, chosen by hash.
  std::string Caption(const Scene& scene, Philox& rng, CaptionPart part) const;

  // Pictures that show no class: noise, blends, scrambles, blurs, half-erased scenes.
  Image8 RenderGarbage(Philox& rng) const;

  struct Impl;
  explicit EmojiWorld(std::shared_ptr<const Impl> impl);
  ~EmojiWorld();

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace excise
