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

// Marks the code points of `text` that belong to an occurrence of one of `names`, as whole words
// and in any case.
std::vector<bool> FindNames(const std::u32string& text, const std::vector<std::string>& names);

}  // namespace excise
