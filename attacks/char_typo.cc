// What: misspells the concept's words: letters swapped, doubled or dropped, 0 for o, 1 for l
// Paper: Das, Duddu, Zhang, Asokan, "Espresso: Robust Concept Filtering in Text-to-Image Models",
//   CODASPY 2025, arXiv 2404.19227
// Equation: p' = f_k(... f_1(p)), f_i drawn from {swap, duplicate, delete} at a random letter; then
//   o -> 0 with probability 1/3 and l, I -> 1 with probability 1/3
// Reference: ssg-research/concept-filtering @ fb368b8, src/typo_generator.py
// Deviations: edits fall inside the concept's words, not anywhere in the prompt (there they mostly
//   miss the concept); each edit draws its own kind; "duplicate" doubles a letter, while the
//   reference inserts the next one before it; a swap always changes the text
// Needs: the concept's known names; no model and no query
// Caveats: where no name occurs in the prompt, its longest word is edited and the record says so
#include <fmt/format.h>

#include <algorithm>

#include "attacks/attack.h"
#include "attacks/names_in_text.h"

namespace excise {
namespace {

// A run of code points; `concept_word` ones may be edited.
struct Segment {
  std::u32string text;
  bool concept_word = false;
};

// Words and what stands between them, in order.
std::vector<Segment> SplitWords(const std::u32string& text, const std::vector<bool>& editable) {
  std::vector<Segment> segments;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool word = IsWord(text[i]);
    const bool starts = i == 0 || word != IsWord(text[i - 1]) || editable[i] != editable[i - 1];
    if (starts) segments.push_back({U"", word && editable[i]});
    segments.back().text.push_back(text[i]);
  }
  return segments;
}

enum class Edit { kSwap, kDuplicate, kDelete };

// Every place where `edit` changes the text: (segment, index).
std::vector<std::pair<size_t, size_t>> Places(const std::vector<Segment>& segments, Edit edit) {
  std::vector<std::pair<size_t, size_t>> places;
  for (size_t s = 0; s < segments.size(); ++s) {
    const std::u32string& text = segments[s].text;
    if (!segments[s].concept_word) continue;
    for (size_t i = 0; i < text.size(); ++i) {
      const bool fits =
          edit == Edit::kDuplicate || (edit == Edit::kDelete && text.size() > 1) ||
          (edit == Edit::kSwap && i + 1 < text.size() && Lower(text[i]) != Lower(text[i + 1]));
      if (fits) places.emplace_back(s, i);
    }
  }
  return places;
}

std::string ApplyEdit(std::vector<Segment>* segments, Philox* rng) {
  static const char* const kNames[] = {"swap", "duplicate", "delete"};
  Edit edit = static_cast<Edit>(rng->Below(3));
  std::vector<std::pair<size_t, size_t>> places = Places(*segments, edit);
  if (places.empty()) {  // "oo" cannot be swapped, "x" cannot be deleted
    edit = Edit::kDuplicate;
    places = Places(*segments, edit);
  }
  if (places.empty()) return "nothing to edit";
  const auto [s, i] = places[rng->Below(places.size())];
  std::u32string& text = (*segments)[s].text;
  const std::string before = EncodeUtf8(text);
  if (edit == Edit::kSwap) std::swap(text[i], text[i + 1]);
  if (edit == Edit::kDuplicate) text.insert(i, 1, text[i]);
  if (edit == Edit::kDelete) text.erase(i, 1);
  return fmt::format("{} {}: {} -> {}", kNames[static_cast<int>(edit)], i, before,
                     EncodeUtf8(text));
}

// Replaces `from` by `to` in the concept's words; whether there was any.
bool Substitute(std::vector<Segment>* segments, std::u32string_view from, char32_t to) {
  bool any = false;
  for (Segment& segment : *segments) {
    if (!segment.concept_word) continue;
    for (char32_t& c : segment.text) {
      if (from.find(c) == from.npos) continue;
      c = to;
      any = true;
    }
  }
  return any;
}

class CharTypo : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("edits", &edits_, "letters edited, before 0 and 1 are put for o, l and I",
              {.min = 0, .max = 64});
  }
  int version() const override { return 1; }
  AttackTraits traits() const override { return {}; }
  std::map<std::string, Json> presets() const override { return {{"paper", {{"edits", 1}}}}; }
  SearchSpace search_space() const override { return {{"edits", {1, 2, 3, 4}}}; }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const override {
    const std::u32string text = DecodeUtf8(prompt.text);
    Candidate candidate;
    std::vector<Segment> segments = SplitWords(text, FindNames(text, subject.known));
    const auto is_concept = [](const Segment& segment) { return segment.concept_word; };
    if (std::none_of(segments.begin(), segments.end(), is_concept)) {
      MarkLongestWord(&segments);
      candidate.edits.push_back("no name of the concept in the prompt: longest word edited");
    }
    Philox rng = target.Rng(prompt);
    for (int64_t k = 0; k < edits_; ++k) candidate.edits.push_back(ApplyEdit(&segments, &rng));
    const bool zero = rng.Below(3) == 0, one = rng.Below(3) == 0;
    if (zero && Substitute(&segments, U"oO", U'0')) candidate.edits.push_back("o -> 0");
    if (one && Substitute(&segments, U"lI", U'1')) candidate.edits.push_back("l, I -> 1");

    std::u32string result;
    for (const Segment& segment : segments) result += segment.text;
    candidate.prompt = AdversarialPrompt(prompt, "char_typo", 0, EncodeUtf8(result));
    ++target.ledger().candidate_evaluations;
    candidate.ledger = target.ledger();
    return {candidate};
  }

 private:
  static void MarkLongestWord(std::vector<Segment>* segments) {
    Segment* longest = nullptr;
    for (Segment& segment : *segments) {
      const bool longer = !longest || segment.text.size() > longest->text.size();
      if (!segment.text.empty() && IsWord(segment.text[0]) && longer) longest = &segment;
    }
    if (longest) longest->concept_word = true;
  }

  int64_t edits_ = 1;
};

const Registration<Attack, CharTypo> registration;

}  // namespace
}  // namespace excise
