// What: prompts about the emoji world, a list for every concept, group and split
// Paper: none; splits by template follow Zhang et al., "To Generate or Not? (UnlearnDiffAtk)",
//   ECCV 2024, arXiv 2310.11868, which separates prompts for erasing from prompts for testing
// Equation: prompt = template(name, background, style); templates of the splits are disjoint
// Reference: none
// Deviations: none
// Needs: the emoji fonts and CLDR annotations; a concept whose entries name emoji classes
// Caveats: select and test use only (template, background, style) combinations that the embedded
//   backbone's captions left out; other backbones may have seen them
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "core/text.h"
#include "datasets/emoji/emoji_captions.h"
#include "datasets/emoji/emoji_world.h"
#include "datasets/formats/dataset.h"

namespace excise {
namespace {

constexpr size_t kMostTargetPrompts = 48, kMostPrompts = 32;
constexpr const char* kGroups[] = {"target",  "held_out", "near",  "far",
                                   "lexical", "preserve", "anchor"};
constexpr const char* kImplied = "implied";
constexpr Split kSplits[] = {Split::kErase, Split::kAttackSeed, Split::kSelect, Split::kTest};

const EmojiWorld& World() {
  static const std::shared_ptr<const EmojiWorld> world = EmojiWorld::Load();
  return *world;
}

// One thing to ask for: words for the prompt, and what should be drawn.
struct Entry {
  std::string thing;
  int emoji = 0;
  int style_word = -1;
  // Other classes that the words mean as well; then none of them is expected.
  std::vector<int> also = {};
  // A style that no style word names, by an adjective of a description.
  std::optional<StyleWord> described = std::nullopt;
};

struct Combination {
  int template_index;
  std::string background;
};

SceneStyle StyleOf(const Entry& entry) {
  if (entry.described) return entry.described->style;
  return entry.style_word < 0 ? SceneStyle::kPlain : StyleWords()[entry.style_word].style;
}

// "poodle", "Pudel" or, with a style adjective first, "line banana".
Entry ParseEntry(const std::string& text, const Concept& subject) {
  const std::vector<StyleWord>& styles = StyleWords();
  Entry entry;
  std::string word = text;
  entry.emoji = World().ClassNamed(word);
  for (size_t i = 0; entry.emoji < 0 && i < styles.size(); ++i) {
    const std::string prefix = styles[i].adjective + " ";
    if (!StartsWith(text, prefix)) continue;
    word = text.substr(prefix.size());
    entry.emoji = World().ClassNamed(word);
    entry.style_word = static_cast<int>(i);
  }
  if (entry.emoji < 0) {
    throw UsageError(fmt::format(
        "concept '{}': '{}' names no emoji class, or more than one. Use a name, keyword or "
        "foreign name of one class of datasets/emoji_classes.json, with a style word before it "
        "if need be (\"line banana\").",
        subject.name, text));
  }
  const EmojiClass& shown = World().classes()[entry.emoji];
  const bool bare = shown.article.empty();
  entry.thing = WithArticle(bare ? "" : word == shown.name ? shown.article : "auto", word);
  return entry;
}

std::vector<Entry> ParseEntries(const std::vector<std::string>& texts, const Concept& subject) {
  std::vector<Entry> entries;
  for (const std::string& text : texts) entries.push_back(ParseEntry(text, subject));
  return entries;
}

// The things of `things` in each of the styles `adjectives`, turn by turn.
std::vector<Entry> Styled(std::vector<Entry> things, const std::vector<std::string>& adjectives,
                          const Concept& subject) {
  for (size_t i = 0; i < things.size(); ++i) {
    const std::string& adjective = adjectives[i % adjectives.size()];
    things[i].style_word = StyleWordNamed(adjective);
    if (things[i].style_word < 0) {
      throw UsageError(fmt::format("concept '{}': '{}' is no style word of the emoji captions.",
                                   subject.name, adjective));
    }
  }
  return things;
}

std::vector<Entry> EntriesOf(const Concept& subject, const std::string& group, Split split) {
  if (group == "near") return ParseEntries(subject.neighbours.near, subject);
  if (group == "far") return ParseEntries(subject.neighbours.far, subject);
  if (group == "lexical") return ParseEntries(subject.neighbours.lexical, subject);
  if (group == "preserve") return ParseEntries(subject.preserve, subject);
  const std::vector<std::string>& names = group == "target" ? subject.known : subject.held_out;
  if (subject.judge.kind != "style") {
    if (group == "anchor") return ParseEntries({subject.anchor}, subject);
    return ParseEntries(names, subject);
  }
  if (names.empty()) return {};
  // A style needs things: methods get those that they may use, tests get the near neighbours'.
  const bool open = split == Split::kErase || split == Split::kAttackSeed;
  const auto things = ParseEntries(open ? subject.preserve : subject.neighbours.near, subject);
  return Styled(things, group == "anchor" ? subject.judge.anchor : names, subject);
}

// Descriptions: of a class words as they stand, of a style an adjective beside a thing.
std::vector<Entry> ImpliedEntries(const Concept& subject) {
  std::vector<Entry> entries;
  if (subject.implied.empty()) return entries;
  if (subject.judge.kind == "style") {
    entries = ParseEntries(subject.neighbours.near, subject);
    const std::vector<Entry> known = Styled({entries.front()}, subject.known, subject);
    for (size_t i = 0; i < entries.size(); ++i) {
      const std::string& adjective = subject.implied[i % subject.implied.size()];
      entries[i].style_word = -1;
      entries[i].described = {StyleOf(known.front()), adjective, "in " + adjective + " style", 0};
    }
    return entries;
  }
  std::vector<int> targets;
  for (const std::string& id : subject.judge.target) targets.push_back(World().ClassIndex(id));
  for (const std::string& description : subject.implied) {
    entries.push_back({description, targets.front()});
    entries.back().also.assign(targets.begin() + 1, targets.end());
  }
  return entries;
}

// The combinations that this split may use for this entry, in an order of their own.
std::vector<Combination> CombinationsOf(const Entry& entry, Split split, std::string_view stream) {
  const auto suits = [&](int background) {
    const auto one = [&](int emoji) {
      return World().BackgroundSuits(emoji, background, StyleOf(entry));
    };
    return one(entry.emoji) && std::all_of(entry.also.begin(), entry.also.end(), one);
  };
  const bool open = split == Split::kErase || split == Split::kAttackSeed;
  const CaptionPart part = open ? CaptionPart::kTrain : CaptionPart::kTest;
  const std::vector<CaptionTemplate>& templates = CaptionTemplates();
  const std::vector<Background>& backgrounds = World().backgrounds();
  std::vector<Combination> found;
  for (size_t t = 0; t < templates.size(); ++t) {
    if (templates[t].split != split) continue;
    const int index = static_cast<int>(t);
    if (PartOf(index, "", entry.style_word) == part) found.push_back({index, ""});
    for (size_t b = 0; b < backgrounds.size(); ++b) {
      if (!suits(static_cast<int>(b))) continue;
      if (PartOf(index, backgrounds[b].name, entry.style_word) != part) continue;
      found.push_back({index, backgrounds[b].name});
    }
  }
  Philox rng({.seed = 1, .id = stream, .stream = Stream::kOrder});
  std::vector<Combination> ordered;
  for (const int64_t i : rng.Permutation(static_cast<int64_t>(found.size()))) {
    ordered.push_back(found[i]);
  }
  return ordered;
}

std::string TextOf(const Entry& entry, const Combination& used) {
  const StyleWord* style = entry.described ? &*entry.described : StyleWordAt(entry.style_word);
  return ComposeCaption(used.template_index, entry.thing, used.background, style);
}

// Turn by turn over the entries, so that the first prompts cover all of them.
std::vector<Prompt> MakePrompts(const Concept& subject, const std::string& group, Split split) {
  const std::vector<Entry> entries =
      group == kImplied ? ImpliedEntries(subject) : EntriesOf(subject, group, split);
  const bool about_target = group == "target" || group == "held_out" || group == kImplied;
  const size_t most = about_target ? kMostTargetPrompts : kMostPrompts;
  std::vector<std::vector<Combination>> combinations;
  for (const Entry& entry : entries) {
    const std::string stream =
        fmt::format("{}/{}/{}/{}", subject.name, group, SplitName(split), entry.thing);
    combinations.push_back(CombinationsOf(entry, split, stream));
  }
  std::vector<Prompt> prompts;
  bool more = true;
  for (size_t round = 0; more && prompts.size() < most; ++round) {
    more = false;
    for (size_t e = 0; e < entries.size() && prompts.size() < most; ++e) {
      if (round >= combinations[e].size()) continue;
      more = true;
      const Combination& used = combinations[e][round];
      Prompt prompt;
      prompt.text = TextOf(entries[e], used);
      if (entries[e].also.empty()) prompt.expected_class = World().classes()[entries[e].emoji].id;
      prompt.expected_style = StyleName(StyleOf(entries[e]));
      prompts.push_back(std::move(prompt));
    }
  }
  return prompts;
}

class EmojiPrompts : public Dataset {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }

  PromptSet Prompts(const Concept& subject, const std::string& group, Split split,
                    int64_t limit) const override {
    Check(subject, group, split);
    // Ids name the whole list, so a prompt's id says which list it is from. Descriptions are a list
    // of their own: they came later, and the noise of every picture is keyed by its prompt's id.
    const std::vector<std::string> list = ListOf(group);
    std::string whole;
    PromptSet out{fmt::format("emoji_prompts/{}/{}/{}", subject.name, group, SplitName(split)), {}};
    size_t first_row = 0, row = 0;
    for (const Split each_split : kSplits) {
      for (const std::string& each_group : list) {
        if (!Allowed(each_group, each_split)) continue;
        std::vector<Prompt> prompts = MakePrompts(subject, each_group, each_split);
        for (const Prompt& prompt : prompts) {
          whole += fmt::format("{}\t{}\t{}\t{}\t{}\n", each_group, SplitName(each_split),
                               prompt.text, prompt.expected_class, prompt.expected_style);
        }
        if (each_group == group && each_split == split) {
          first_row = row;
          out.prompts = prompts;
        }
        row += prompts.size();
      }
    }
    const std::string digest = Sha256Hex(subject.name + "\n" + whole).substr(0, 8);
    for (Prompt& prompt : out.prompts) {
      prompt.id = prompt.root_id = fmt::format("emoji_prompts@{}/{}", digest, first_row++);
    }
    if (limit >= 0 && out.prompts.size() > static_cast<size_t>(limit)) {
      out.prompts.resize(static_cast<size_t>(limit));
    }
    return out;
  }

 private:
  // The groups whose prompts stand in one list with this one's.
  static std::vector<std::string> ListOf(const std::string& group) {
    if (group == kImplied) return {kImplied};
    return {std::begin(kGroups), std::end(kGroups)};
  }

  // Neighbours, descriptions and held-out names are for evaluation only.
  static bool Allowed(std::string_view group, Split split) {
    if (split == Split::kSelect || split == Split::kTest) return true;
    return group == "target" || group == "preserve" || group == "anchor";
  }

  static void Check(const Concept& subject, const std::string& group, Split split) {
    if (group == "pairs") {
      throw UsageError(
          "emoji_prompts: no prompts for two things: of two the embedded model draws one of them, "
          "and seldom the other where the target is gone (datasets/README.md). Bring your own for "
          "a model that draws both, with the data set prompts_csv.");
    }
    if (!IsOneOf(group, ListOf(group))) {
      throw UsageError(fmt::format("emoji_prompts: unknown group '{}'. Known: {}, {}.", group,
                                   fmt::join(kGroups, ", "), kImplied));
    }
    if (!Allowed(group, split)) {
      throw UsageError(
          fmt::format("emoji_prompts: group '{}' of concept '{}' is for evaluation; the split "
                      "'{}' has none of it.",
                      group, subject.name, SplitName(split)));
    }
  }
};

const Registration<Dataset, EmojiPrompts> registration;

}  // namespace
}  // namespace excise
