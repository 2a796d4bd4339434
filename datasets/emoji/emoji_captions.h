// The grammar of captions: template x background x style word, and which part trains on what.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "datasets/emoji/emoji_world.h"
#include "datasets/formats/dataset.h"

namespace excise {

// "a {style} picture of {x} on a red background": `frame` is "picture of"; or a whole phrase with
// the thing at '*': "here is *".
struct CaptionTemplate {
  std::string frame;
  double weight;  // how often captions use it
  Split split;    // the only split of prompt data sets that uses it
};
const std::vector<CaptionTemplate>& CaptionTemplates();

// A way to name a style: before a noun ("sepia" picture) or behind the phrase ("in sepia").
struct StyleWord {
  SceneStyle style;
  std::string adjective, suffix;
  double weight;
};
const std::vector<StyleWord>& StyleWords();
// The index of the style word with this adjective, or -1.
int StyleWordNamed(std::string_view adjective);

// The style word of this index, or null for -1.
const StyleWord* StyleWordAt(int index);

// A combination belongs to one part, by hash; about 30 % are kTest. `background` "" and
// `style_word` -1 stand for "not named".
CaptionPart PartOf(int template_index, std::string_view background, int style_word);

// The caption of a combination. `thing` has its article.
std::string ComposeCaption(int template_index, std::string_view thing, std::string_view background,
                           int style_word);
// The same with a style word of one's own; null: none.
std::string ComposeCaption(int template_index, std::string_view thing, std::string_view background,
                           const StyleWord* style);

// "a poodle"; "an" before a vowel when `article` is "auto"; the bare word when it is empty.
std::string WithArticle(std::string_view article, std::string_view word);

enum class NamingKind { kName, kKeywords, kForeign, kCategory };

// A caption and how it came about.
struct CaptionPlan {
  std::string text;
  NamingKind kind = NamingKind::kName;
  bool typo = false;
  int template_index = 0;
  std::string background;  // "" = not named
  int style_word = -1;     // -1 = not named
};
CaptionPlan PlanCaption(const EmojiClass& subject, SceneStyle style, std::string_view background,
                        Philox& rng, CaptionPart part);

}  // namespace excise
