#include "models/formats/tokenizer_text.h"

#include <fmt/format.h>
#include <unicode/normalizer2.h>
#include <unicode/regex.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <memory>

#include "core/error.h"

namespace excise::bpe {
namespace {

icu::UnicodeString FromUtf8(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int>(text.size())));
}

std::string ToUtf8(const icu::UnicodeString& text) {
  std::string out;
  text.toUTF8String(out);
  return out;
}

void Check(UErrorCode status, const char* what) {
  if (U_FAILURE(status)) {
    throw Error(fmt::format("ICU could not {}: {}. Is the ICU data package (libicu) installed?",
                            what, u_errorName(status)));
  }
}

// White space by the Unicode property: ICU's own \s lacks vertical tab and next line (U+0085). A
// greedy "+" on a single set saves no state per character; a possessive one would, and then a word
// of a megabyte overflows ICU's stack.
constexpr const char kWordPattern[] =
    "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|"
    "\\p{L}+|\\p{N}|[^\\p{White_Space}\\p{L}\\p{N}]+";

const icu::RegexPattern& WordPattern() {
  static const icu::RegexPattern* const pattern = [] {
    UErrorCode status = U_ZERO_ERROR;
    UParseError where;
    icu::RegexPattern* compiled =
        icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(kWordPattern), 0, where, status);
    Check(status, "compile the tokenizer's word pattern");
    return compiled;
  }();
  return *pattern;
}

bool IsPrintableByte(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

}  // namespace

const std::array<std::string, 256>& ByteSymbols() {
  static const auto* const table = [] {
    auto* symbols = new std::array<std::string, 256>;
    UChar32 next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const UChar32 symbol = IsPrintableByte(byte) ? byte : next++;
      (*symbols)[static_cast<size_t>(byte)] = ToUtf8(icu::UnicodeString(symbol));
    }
    return symbols;
  }();
  return *table;
}

const std::array<unsigned char, 256>& ByteOrder() {
  static const auto* const order = [] {
    auto* bytes = new std::array<unsigned char, 256>;
    size_t n = 0;
    for (const bool printable : {true, false}) {
      for (int byte = 0; byte < 256; ++byte) {
        if (IsPrintableByte(byte) == printable) (*bytes)[n++] = static_cast<unsigned char>(byte);
      }
    }
    return bytes;
  }();
  return *order;
}

std::string Normalize(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  Check(status, "load the NFC tables");
  const icu::UnicodeString composed = nfc->normalize(FromUtf8(text), status);
  Check(status, "normalise a text");
  icu::UnicodeString out;
  bool after_space = false;
  for (int32_t i = 0; i < composed.length(); i = composed.moveIndex32(i, 1)) {
    const UChar32 c = composed.char32At(i);
    if (u_isUWhiteSpace(c)) {
      if (!after_space) out.append(static_cast<UChar32>(' '));
      after_space = true;
      continue;
    }
    after_space = false;
    if (c == 0x130) {  // the one character whose lower case has two
      out.append(static_cast<UChar32>('i')).append(static_cast<UChar32>(0x307));
    } else {
      out.append(u_tolower(c));
    }
  }
  return ToUtf8(out);
}

std::vector<std::string> SplitWords(std::string_view normalized) {
  const icu::UnicodeString text = FromUtf8(normalized);
  UErrorCode status = U_ZERO_ERROR;
  std::unique_ptr<icu::RegexMatcher> matcher(WordPattern().matcher(text, status));
  Check(status, "start matching words");
  std::vector<std::string> words;
  while (matcher->find(status)) {
    const icu::UnicodeString match = matcher->group(status);
    Check(status, "read a matched word");
    std::string word = ToUtf8(match);
    if (word == kStartOfText || word == kEndOfText) {
      // CLIPTokenizerFast's byte-level stage splits again, by GPT-2's pattern, which does not know
      // special tokens: "<|STARTOFTEXT|>" typed in capitals is three words.
      words.push_back("<|");
      words.push_back(word.substr(2, word.size() - 4));
      words.push_back("|>");
    } else {
      words.push_back(std::move(word));
    }
  }
  Check(status, "match words");
  return words;
}

std::vector<std::string> Characters(std::string_view text) {
  std::vector<std::string> characters;
  const int32_t size = static_cast<int32_t>(text.size());
  for (int32_t i = 0; i < size;) {
    const int32_t begin = i;
    U8_FWD_1(text.data(), i, size);
    characters.emplace_back(
        text.substr(static_cast<size_t>(begin), static_cast<size_t>(i - begin)));
  }
  return characters;
}

std::string CleanUtf8(std::string_view text) {
  const icu::UnicodeString all = FromUtf8(text);
  // Python's str.strip, which transformers calls, also counts U+001C..U+001F.
  const auto is_space = [](UChar32 c) { return u_isUWhiteSpace(c) || (c >= 0x1c && c <= 0x1f); };
  int32_t begin = 0, end = all.length();
  while (begin < end && is_space(all.char32At(begin))) begin = all.moveIndex32(begin, 1);
  while (end > begin && is_space(all.char32At(all.moveIndex32(end, -1)))) {
    end = all.moveIndex32(end, -1);
  }
  return ToUtf8(all.tempSubStringBetween(begin, end));
}

}  // namespace excise::bpe
