#include "datasets/quadruplets/emoji_phrases.h"

#include <fmt/format.h>

#include "core/error.h"
#include "datasets/emoji/emoji_captions.h"

namespace excise {
namespace {

constexpr double kPlainUnnamed = .85;  // plain pictures of which no style is said

// Ways to say a style with this background in this part.
std::vector<Phrase> PhrasesFor(QuadrupletPart part, std::string_view background, SceneStyle style,
                               bool named) {
  const auto open = [](Split split) {
    return split == Split::kErase || split == Split::kAttackSeed;
  };
  std::vector<Phrase> found;
  for (int t = 0; t < static_cast<int>(CaptionTemplates().size()); ++t) {
    const Split split = CaptionTemplates()[t].split;
    const bool ours = part == QuadrupletPart::kTrain        ? open(split)
                      : part == QuadrupletPart::kValidation ? split == Split::kSelect
                                                            : split == Split::kTest;
    if (!ours) continue;
    const CaptionPart captions =
        part == QuadrupletPart::kTrain ? CaptionPart::kTrain : CaptionPart::kTest;
    for (int w = -1; w < static_cast<int>(StyleWords().size()); ++w) {
      if (named != (w >= 0) || (named && StyleWords()[w].style != style)) continue;
      if (PartOf(t, background, w) == captions) found.emplace_back(t, w);
    }
  }
  return found;
}

}  // namespace

Phrase Phrases::Draw(const std::string& background, SceneStyle style, Philox* rng) {
  const bool plain = style == SceneStyle::kPlain;
  const bool named = !plain || rng->Uniform() > kPlainUnnamed;
  const std::vector<Phrase>& wanted = For(background, style, named);
  const std::vector<Phrase>& usable =
      wanted.empty() && plain ? For(background, style, !named) : wanted;
  if (!usable.empty()) return usable[rng->Below(usable.size())];
  throw Error(fmt::format("the part {} has no phrase for the background '{}'.", PartName(part_),
                          background));
}

const std::vector<Phrase>& Phrases::For(const std::string& background, SceneStyle style,
                                        bool named) {
  const auto [it, fresh] = lists_.try_emplace({background, style, named});
  if (fresh) it->second = PhrasesFor(part_, background, style, named);
  return it->second;
}

}  // namespace excise
