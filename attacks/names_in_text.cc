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

std::vector<bool> FindNames(const std::u32string& text, const std::vector<std::string>& names) {
  std::vector<bool> found(text.size(), false);
  const std::u32string lower = LowerAll(text);
  for (const std::string& utf8 : names) {
    const std::u32string name = LowerAll(DecodeUtf8(utf8));
    if (name.empty()) continue;
    for (size_t at = lower.find(name); at != lower.npos; at = lower.find(name, at + 1)) {
      const size_t end = at + name.size();
      const bool whole =
          (at == 0 || !IsWord(lower[at - 1])) && (end == lower.size() || !IsWord(lower[end]));
      if (whole) std::fill(found.begin() + at, found.begin() + end, true);
    }
  }
  return found;
}

}  // namespace excise
