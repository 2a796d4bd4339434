// Text: what many files need and the standard library lacks.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace excise {

bool StartsWith(std::string_view text, std::string_view start);
bool EndsWith(std::string_view text, std::string_view end);

// A to Z become a to z; every other byte stays, in any locale.
std::string LowerAscii(std::string_view text);

// The part of `text` without the ASCII white space at both ends.
std::string_view Trimmed(std::string_view text);

// "a, b, c".
std::string Joined(const std::vector<std::string>& words, std::string_view between = ", ");

// The lines without their ends; what follows the last '\n' is a line unless it is empty.
std::vector<std::string> Lines(std::string_view text);

// One character of UTF-8; `length` in bytes is 0 where they are not UTF-8: truncated, overlong, a
// surrogate, beyond U+10FFFF.
struct CodePoint {
  char32_t value = 0;
  size_t length = 0;
};

// The character that starts at the byte `at`, which must be less than the size of `text`.
CodePoint CodePointAt(std::string_view text, size_t at);

// Appends a code point of at most U+10FFFF.
void AppendUtf8(char32_t value, std::string* text);

// Whether the byte continues a character of UTF-8, so that no text may be cut before it.
bool ContinuesCharacter(char byte);

// The number of characters (code points), and the first `count` of them. Of bytes that are not
// UTF-8, those that continue nothing are not counted.
size_t TextWidth(std::string_view text);
std::string_view FirstCharacters(std::string_view text, size_t count);

// RFC 4648 with padding, on one line.
std::string Base64(std::string_view bytes);

bool IsOneOf(std::string_view name, const std::vector<std::string>& known);

// The nearest of `known` to `name` by edit distance, or "" when none is near.
std::string Suggest(std::string_view name, const std::vector<std::string>& known);

// What follows "Unknown x 'y'." in a message: " Did you mean 'z'?", or "" when no name is near.
std::string DidYouMean(std::string_view name, const std::vector<std::string>& known);

// The same, with all names: " Did you mean 'z'? Known: a, b, z."
std::string DidYouMeanOrKnown(std::string_view name, const std::vector<std::string>& known);

}  // namespace excise
