#include "datasets/emoji/emoji_captions.h"

#include <fmt/format.h>

#include <array>

namespace excise {
namespace {

constexpr double kKeywordShare = .30, kForeignShare = .22, kCategoryShare = .04;
constexpr double kTypoShare = .085;
constexpr double kStyleDropped = .35;  // sepia and line pictures whose style is not named
constexpr double kPlainNamed = .12;    // plain pictures that are called plain
constexpr double kTwoKeywords = .30;

uint64_t StableHash(std::string_view text) {  // FNV-1a with a final mix (Murmur3's)
  uint64_t h = 14695981039346656037ULL;
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 1099511628211ULL;
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdULL;
  h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return h ^ (h >> 33);
}

bool IsVowel(char c) { return std::string_view("aeiouAEIOU").find(c) != std::string_view::npos; }

template <class Item, class Weight>
int PickWeighted(const std::vector<Item>& items, const Weight& weight, Philox& rng) {
  double total = 0;
  for (size_t i = 0; i < items.size(); ++i) total += weight(i);
  if (total <= 0) return -1;
  double at = rng.Uniform() * total;
  int last = -1;
  for (size_t i = 0; i < items.size(); ++i) {
    const double w = weight(i);
    if (w <= 0) continue;
    last = static_cast<int>(i);
    at -= w;
    if (at < 0) return last;
  }
  return last;
}

const std::string& PickOne(const std::vector<std::string>& list, Philox& rng) {
  return list[rng.Below(list.size())];
}

std::string BackgroundPhrase(int template_index, std::string_view background) {
  switch (template_index % 4) {
    case 0:
      return fmt::format(" on {} background", WithArticle("auto", background));
    case 1:
      return fmt::format(" with {} background", WithArticle("auto", background));
    case 2:
      return fmt::format(", {} background", background);
    default:
      return fmt::format(" against {} background", WithArticle("auto", background));
  }
}

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// One edit of a letter: left out, doubled, replaced, or swapped with the next. False (and nothing
// done) for words of fewer than four letters.
bool AddTypo(std::string& word, Philox& rng) {
  std::vector<size_t> places;  // letters whose next byte is a letter too
  for (size_t i = 0; i + 1 < word.size(); ++i) {
    if (IsLetter(word[i]) && IsLetter(word[i + 1])) places.push_back(i);
  }
  if (places.size() < 3) return false;
  const std::string before = word;
  while (word == before) {  // a swap or replacement may change nothing
    const size_t at = places[rng.Below(places.size())];
    switch (rng.Below(4)) {
      case 0:
        word.erase(at, 1);
        break;
      case 1:
        word.insert(at, 1, word[at]);
        break;
      case 2:
        word[at] = static_cast<char>('a' + rng.Below(26));
        break;
      default:
        std::swap(word[at], word[at + 1]);
    }
  }
  return true;
}

struct Naming {
  NamingKind kind;
  std::string word, article;
};

Naming PickNaming(const EmojiClass& subject, Philox& rng) {
  const double u = rng.Uniform();
  const bool bare = rng.Uniform() < .5;
  if (u < kCategoryShare) return {NamingKind::kCategory, subject.category, "auto"};
  if (u < kCategoryShare + kKeywordShare && !subject.keywords.empty()) {
    std::string word = PickOne(subject.keywords, rng);
    if (subject.keywords.size() > 1 && rng.Uniform() < kTwoKeywords) {
      const std::string& other = PickOne(subject.keywords, rng);
      if (other != word) return {NamingKind::kKeywords, word + ", " + other, ""};
    }
    return {NamingKind::kKeywords, word, bare ? "" : "auto"};
  }
  if (u > 1 - kForeignShare && !subject.foreign_names.empty()) {
    return {NamingKind::kForeign, PickOne(subject.foreign_names, rng), bare ? "" : "auto"};
  }
  return {NamingKind::kName, subject.name, subject.article};
}

// Backgrounds of sepia pictures have lost their colour, so captions seldom name them.
double BackgroundShare(SceneStyle style) {
  return style == SceneStyle::kSepia ? .2 : style == SceneStyle::kLine ? .4 : .48;
}

int PickStyleWord(SceneStyle style, Philox& rng) {
  const bool named =
      style == SceneStyle::kPlain ? rng.Uniform() < kPlainNamed : rng.Uniform() >= kStyleDropped;
  if (!named) return -1;
  const std::vector<StyleWord>& words = StyleWords();
  return PickWeighted(
      words, [&](size_t i) { return words[i].style == style ? words[i].weight : 0.0; }, rng);
}

}  // namespace

const std::vector<CaptionTemplate>& CaptionTemplates() {
  static const std::vector<CaptionTemplate> kTemplates = {
      {"*", 4, Split::kErase},
      {"picture of", 3, Split::kErase},
      {"image of", 1.5, Split::kErase},
      {"behold *", 1, Split::kErase},
      {"photo of", 1, Split::kAttackSeed},
      {"icon of", 1, Split::kAttackSeed},
      {"portrait of", 1, Split::kAttackSeed},
      {"here is *", 1, Split::kAttackSeed},
      {"illustration of", 1, Split::kSelect},
      {"print of", 1, Split::kSelect},
      {"sticker with", 1, Split::kSelect},
      {"rendering of", 1, Split::kSelect},
      {"emoji of", 1, Split::kSelect},
      {"this is *", 1, Split::kSelect},
      {"drawing of", 1, Split::kTest},
      {"painting of", 1, Split::kTest},
      {"poster of", 1, Split::kTest},
      {"postcard with", 1, Split::kTest},
      {"stamp with", 1, Split::kTest},
      {"card with", 1, Split::kTest},
      {"there is *", 1, Split::kTest},
      {"look at *", 1, Split::kTest},
      {"we see *", 1, Split::kTest},
      {"* alone", 1, Split::kTest},
  };
  return kTemplates;
}

const std::vector<StyleWord>& StyleWords() {
  static const std::vector<StyleWord> kWords = {
      {SceneStyle::kSepia, "sepia", "in sepia", .50},
      {SceneStyle::kSepia, "sepia-toned", "in sepia tones", .15},
      {SceneStyle::kSepia, "vintage", "in vintage style", .13},
      {SceneStyle::kSepia, "antique", "in antique style", .11},
      {SceneStyle::kSepia, "old brown", "in old brown tones", .11},
      {SceneStyle::kLine, "line", "as a line drawing", .5},
      {SceneStyle::kLine, "line-art", "as line art", .25},
      {SceneStyle::kLine, "outline", "as an outline", .25},
      {SceneStyle::kPlain, "plain", "in plain style", .4},
      {SceneStyle::kPlain, "colour", "in colour", .3},
      {SceneStyle::kPlain, "color", "in color", .3},
  };
  return kWords;
}

int StyleWordNamed(std::string_view adjective) {
  const std::vector<StyleWord>& words = StyleWords();
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].adjective == adjective) return static_cast<int>(i);
  }
  return -1;
}

const StyleWord* StyleWordAt(int index) { return index < 0 ? nullptr : &StyleWords().at(index); }

CaptionPart PartOf(int template_index, std::string_view background, int style_word) {
  const std::string& frame = CaptionTemplates().at(template_index).frame;
  // The bare name is what everybody types; withholding it would make training odd.
  if (frame == "*" && background.empty() && style_word < 0) return CaptionPart::kTrain;
  const std::string style = style_word < 0 ? "" : StyleWords().at(style_word).adjective;
  const uint64_t hash = StableHash(fmt::format("{}|{}|{}", frame, background, style));
  return hash % 10 < 3 ? CaptionPart::kTest : CaptionPart::kTrain;
}

std::string WithArticle(std::string_view article, std::string_view word) {
  if (article.empty() || word.empty()) return std::string(word);
  if (article != "auto") return fmt::format("{} {}", article, word);
  return fmt::format("{} {}", IsVowel(word.front()) ? "an" : "a", word);
}

std::string ComposeCaption(int template_index, std::string_view thing, std::string_view background,
                           int style_word) {
  return ComposeCaption(template_index, thing, background, StyleWordAt(style_word));
}

std::string ComposeCaption(int template_index, std::string_view thing, std::string_view background,
                           const StyleWord* style) {
  const std::string& frame = CaptionTemplates().at(template_index).frame;
  std::string text;
  const size_t star = frame.find('*');
  if (star == std::string::npos) {
    const std::string noun = style == nullptr ? frame : style->adjective + " " + frame;
    text = fmt::format("{} {}", WithArticle("auto", noun), thing);
  } else {
    text = fmt::format("{}{}{}", frame.substr(0, star), thing, frame.substr(star + 1));
    if (style != nullptr) text += " " + style->suffix;
  }
  if (!background.empty()) text += BackgroundPhrase(template_index, background);
  return text;
}

CaptionPlan PlanCaption(const EmojiClass& subject, SceneStyle style, std::string_view background,
                        Philox& rng, CaptionPart part) {
  Naming naming = PickNaming(subject, rng);
  CaptionPlan plan;
  plan.kind = naming.kind;
  if (rng.Uniform() < kTypoShare) plan.typo = AddTypo(naming.word, rng);
  const std::vector<CaptionTemplate>& templates = CaptionTemplates();
  plan.template_index = -1;
  while (plan.template_index < 0) {
    plan.background = rng.Uniform() < BackgroundShare(style) ? std::string(background) : "";
    plan.style_word = PickStyleWord(style, rng);
    auto weight = [&](size_t i) {
      const bool ours = PartOf(static_cast<int>(i), plan.background, plan.style_word) == part;
      return ours ? templates[i].weight : 0.0;
    };
    plan.template_index = PickWeighted(templates, weight, rng);
  }
  plan.text = ComposeCaption(plan.template_index, WithArticle(naming.article, naming.word),
                             plan.background, plan.style_word);
  return plan;
}

}  // namespace excise
