// How the captions of quadruplets are worded: each part has phrases of its own.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "core/random.h"
#include "datasets/emoji/emoji_world.h"
#include "datasets/quadruplets/quadruplets.h"

namespace excise {

// (template, style word or -1) of datasets/emoji/emoji_captions.h.
using Phrase = std::pair<int, int>;

// The phrases of a part. A thousand rows share a few dozen lists.
class Phrases {
 public:
  explicit Phrases(QuadrupletPart part) : part_(part) {}

  // One of them; with a style word where the style must be said, and where nothing is left of the
  // plain ones. Throws Error when there is none.
  Phrase Draw(const std::string& background, SceneStyle style, Philox* rng);

 private:
  const std::vector<Phrase>& For(const std::string& background, SceneStyle style, bool named);

  QuadrupletPart part_;
  std::map<std::tuple<std::string, SceneStyle, bool>, std::vector<Phrase>> lists_;
};

}  // namespace excise
