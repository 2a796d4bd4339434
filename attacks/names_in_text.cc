#include "attacks/names_in_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"

namespace excise {
namespace {

std::u32string LowerAll(std::u32string text) {
  for (char32_t& c : text) c = Lower(c);
  return text;
}

// Where `name` stands, both in small letters.
std::vector<NamePlace> PlacesOf(const std::u32string& lower, const std::u32string& name) {
  std::vector<NamePlace> places;
  if (name.empty()) return places;
  for (size_t at = lower.find(name); at != lower.npos; at = lower.find(name, at + 1)) {
    const size_t end = at + name.size();
    const bool whole =
        (at == 0 || !IsWord(lower[at - 1])) && (end == lower.size() || !IsWord(lower[end]));
    if (whole) places.push_back({at, end});
  }
  return places;
}

// The word that ends at `end` of `text`, in small letters; "" where none does.
std::u32string WordBefore(const std::u32string& text, size_t end) {
  size_t begin = end;
  while (begin > 0 && IsWord(text[begin - 1])) --begin;
  return LowerAll(text.substr(begin, end - begin));
}

// Writes the article before the name, "a" or "an", as the name wants it.
void FitArticle(const std::u32string& name, std::u32string* before) {
  if (before->empty() || before->back() != U' ' || name.empty()) return;
  const size_t end = before->size() - 1;
  const std::u32string article = WordBefore(*before, end);
  if (article != U"a" && article != U"an") return;
  const bool vowel =
      std::u32string_view(U"aeiouáàâéèêíóôú").find(Lower(name[0])) != std::u32string_view::npos;
  // The first letter stays, for its case.
  before->replace(end - article.size() + 1, article.size() - 1, vowel ? U"n" : U"");
}

// Whether a style's name that ends `before` and is followed by `after` is no adjective of a noun:
// "in sepia", "in sepia on a red background".
bool WantsNoun(const std::u32string& before, const std::u32string& after) {
  if (before.empty() || before.back() != U' ') return false;
  if (WordBefore(before, before.size() - 1) != U"in") return false;
  if (after.empty() || after[0] != U' ') return true;
  const size_t end = after.find(U' ', 1);
  return IsOneOf(EncodeUtf8(after.substr(1, end == after.npos ? end : end - 1)),
                 {"on", "with", "against"});
}

}  // namespace

std::u32string DecodeUtf8(const std::string& text) {
  std::u32string result;
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = CodePointAt(text, i);
    if (point.length == 0) {
      throw Error(fmt::format("A prompt or name is not UTF-8 at byte {}; repair the data set.", i));
    }
    result.push_back(point.value);
    i += point.length;
  }
  return result;
}

std::string EncodeUtf8(const std::u32string& text) {
  std::string result;
  for (const char32_t point : text) AppendUtf8(point, &result);
  return result;
}

char32_t Lower(char32_t c) { return c >= U'A' && c <= U'Z' ? c + 32 : c; }
bool IsWord(char32_t c) {
  return c >= 0x80 || (c >= U'0' && c <= U'9') || (Lower(c) >= U'a' && Lower(c) <= U'z');
}

std::vector<NamePlace> PlacesOfNames(const std::u32string& text, std::vector<std::string> names,
                                     size_t most) {
  std::stable_sort(names.begin(), names.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  const std::u32string lower = LowerAll(text);
  std::vector<NamePlace> places;
  for (const std::string& name : names) {
    for (const NamePlace& place : PlacesOf(lower, LowerAll(DecodeUtf8(name)))) {
      const bool free = std::none_of(places.begin(), places.end(), [&](const NamePlace& taken) {
        return place.begin < taken.end && taken.begin < place.end;
      });
      if (free && places.size() < most) places.push_back(place);
    }
  }
  std::sort(places.begin(), places.end(),
            [](const NamePlace& a, const NamePlace& b) { return a.begin < b.begin; });
  return places;
}

std::string Renamed(const std::u32string& text, const std::vector<NamePlace>& places,
                    const std::string& name, bool style) {
  const std::u32string letters = DecodeUtf8(name);
  std::u32string result;
  size_t done = 0;
  for (const NamePlace& place : places) {
    result += text.substr(done, place.begin - done);
    done = place.end;
    FitArticle(letters, &result);
    const bool noun = style && WantsNoun(result, text.substr(done));
    result += letters + (noun ? U" style" : U"");
  }
  return EncodeUtf8(result + text.substr(done));
}

std::vector<bool> FindNames(const std::u32string& text, const std::vector<std::string>& names) {
  std::vector<bool> found(text.size(), false);
  const std::u32string lower = LowerAll(text);
  for (const std::string& name : names) {
    for (const NamePlace& place : PlacesOf(lower, LowerAll(DecodeUtf8(name)))) {
      std::fill(found.begin() + static_cast<std::ptrdiff_t>(place.begin),
                found.begin() + static_cast<std::ptrdiff_t>(place.end), true);
    }
  }
  return found;
}

}  // namespace excise
