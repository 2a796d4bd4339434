// A concept's names in prompts, letter by letter.
#pragma once

#include <string>
#include <vector>

namespace excise {

// Throws Error where `text` is not UTF-8.
std::u32string DecodeUtf8(const std::string& text);
std::string EncodeUtf8(const std::u32string& text);

char32_t Lower(char32_t c);  // A to Z alone
bool IsWord(char32_t c);     // a letter or a digit, and all beyond ASCII

// Where a name stands: code points [begin, end).
struct NamePlace {
  size_t begin, end;
};

// Where the names stand, in the order of the text, as whole words and in any case. A longer name
// comes before the shorter ones that it contains; at most `most` places, of the longest names.
std::vector<NamePlace> PlacesOfNames(const std::u32string& text, std::vector<std::string> names,
                                     size_t most = std::u32string::npos);

// `text` with `name` in the place of what stands at `places`, and still a sentence: an article "a"
// or "an" before it fits it, and a `style` that is named behind "in" alone gets its noun ("in
// sepia" -> "in vintage style").
std::string Renamed(const std::u32string& text, const std::vector<NamePlace>& places,
                    const std::string& name, bool style);

// Marks the code points of `text` that belong to an occurrence of one of `names`, as whole words
// and in any case.
std::vector<bool> FindNames(const std::u32string& text, const std::vector<std::string>& names);

}  // namespace excise
