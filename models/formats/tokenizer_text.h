// What happens to a text before byte-pair merges, shared by Encode and TrainTokenizer so that both
// cut words alike.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace excise::bpe {

inline constexpr std::string_view kEndOfWord = "</w>";
inline constexpr std::string_view kStartOfText = "<|startoftext|>";
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

// The printable symbol (UTF-8) that stands for each byte value; GPT-2's table, which has no white
// space, so that merges.txt can separate symbols by a space.
const std::array<std::string, 256>& ByteSymbols();
// Byte values in the order of the vocabulary: the printable ones first.
const std::array<unsigned char, 256>& ByteOrder();

// NFC, runs of white space to one space, lower case character by character (as Rust's
// char::to_lowercase in the `tokenizers` library: no context, so a final sigma stays as it is).
// Ill-formed UTF-8 becomes U+FFFD.
std::string Normalize(std::string_view text);

// Words of a normalised text: contractions, runs of letters, single digits, runs of the rest.
// Throws Error if ICU fails.
std::vector<std::string> SplitWords(std::string_view normalized);

// Code points of `text`, each as UTF-8.
std::vector<std::string> Characters(std::string_view text);

// `text` with ill-formed UTF-8 replaced by U+FFFD and white space trimmed at both ends.
std::string CleanUtf8(std::string_view text);

}  // namespace excise::bpe
