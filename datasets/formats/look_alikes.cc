#include "datasets/formats/look_alikes.h"

#include <fmt/format.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/uspoof.h>

#include <algorithm>

#include "core/error.h"

namespace excise {
namespace {

void RequireIcu(UErrorCode status, const char* what) {
  if (U_SUCCESS(status)) return;
  throw Error(
      fmt::format("ICU cannot {}: {}. Probably its data (libicu) is damaged; install it "
                  "again.",
                  what, u_errorName(status)));
}

bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
char ToLower(char c) { return IsUpper(c) ? static_cast<char>(c - 'A' + 'a') : c; }
bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Most prompts come this way: it decides the speed.
std::string LookOfAscii(std::string_view text) {
  std::string ascii;
  ascii.reserve(text.size() + 8);
  char previous = ' ';
  for (const char c : text) {
    if ((c < ' ' && !IsSpace(c)) || c == '\x7f') continue;
    if (IsLower(previous) && IsUpper(c)) ascii.push_back(kSeam);
    ascii.push_back(ToLower(c));
    previous = c;
  }
  return ascii;
}

// Letters in a frame, and regional indicators: alphabets from A on that no normalisation resolves.
constexpr UChar32 kFramed[] = {0x1F150, 0x1F170, 0x1F1E6};

// Letters that readers take for ASCII ones, and Unicode's list of confusables does not: small
// capitals (to which that list leads others: Cyrillic в looks like ʙ), some Greek and Cyrillic.
struct Twin {
  UChar32 letter;
  char ascii;
};
constexpr Twin kTwins[] = {
    {U'ᴀ', 'a'}, {U'ʙ', 'b'}, {U'ᴄ', 'c'}, {U'ᴅ', 'd'}, {U'ᴇ', 'e'}, {U'ɢ', 'g'}, {U'ʜ', 'h'},
    {U'ɪ', 'i'}, {U'ᴋ', 'k'}, {U'ĸ', 'k'}, {U'κ', 'k'}, {U'к', 'k'}, {U'ʟ', 'l'}, {U'ᴍ', 'm'},
    {U'ɴ', 'n'}, {U'ᴏ', 'o'}, {U'ᴘ', 'p'}, {U'ʀ', 'r'}, {U'ꜱ', 's'}, {U'ᴛ', 't'}, {U'т', 't'},
    {U'τ', 't'}, {U'ᴜ', 'u'}, {U'ʏ', 'y'}, {U'ᴢ', 'z'}, {U'β', 'b'}, {U'в', 'b'}, {U'н', 'h'},
    {U'м', 'm'}, {U'η', 'n'}, {U'ε', 'e'}, {U'я', 'r'}, {U'и', 'n'}, {U'є', 'e'}, {U'ə', 'e'}};

char TwinOf(UChar32 c) {
  const auto* twin = std::find_if(std::begin(kTwins), std::end(kTwins),
                                  [c](const Twin& one) { return one.letter == c; });
  return twin == std::end(kTwins) ? '\0' : twin->ascii;
}

char FramedLetter(UChar32 c) {
  for (const UChar32 first : kFramed) {
    if (c >= first && c < first + 26) return static_cast<char>('a' + (c - first));
  }
  return '\0';
}

bool IsUnseen(UChar32 c) {
  const int8_t type = u_charType(c);
  return type == U_NON_SPACING_MARK || type == U_ENCLOSING_MARK || type == U_FORMAT_CHAR ||
         (type == U_CONTROL_CHAR && c != kSeam && !u_isUWhiteSpace(c)) ||
         u_hasBinaryProperty(c, UCHAR_DEFAULT_IGNORABLE_CODE_POINT) != 0;
}

// What Unicode's list of confusables says that `c` looks like, in ASCII.
std::string Confusable(UChar32 c) {
  static const USpoofChecker* const checker = [] {
    UErrorCode status = U_ZERO_ERROR;
    USpoofChecker* opened = uspoof_open(&status);
    RequireIcu(status, "read its list of confusables");
    return opened;
  }();
  UErrorCode status = U_ZERO_ERROR;
  icu::UnicodeString skeleton;
  uspoof_getSkeletonUnicodeString(checker, 0, icu::UnicodeString(c), skeleton, &status);
  RequireIcu(status, "look up a confusable");
  std::string ascii;
  for (int32_t i = 0; i < skeleton.length(); i = skeleton.moveIndex32(i, 1)) {
    const UChar32 part = skeleton.char32At(i);
    if (IsUnseen(part)) continue;
    const char twin = TwinOf(part);
    ascii.push_back(part < 0x80 ? ToLower(static_cast<char>(part)) : twin != 0 ? twin : kSeam);
  }
  if (ascii == "rn") return "m";  // how the list writes it
  return skeleton.length() == 1 && (ascii == "l" || ascii == "i") ? "1" : ascii;
}

std::string AsciiOf(UChar32 c) {
  if (IsUnseen(c)) return "";
  if (c < 0x80) return std::string(1, ToLower(static_cast<char>(c)));
  if (u_isUWhiteSpace(c)) return " ";
  if (const int32_t digit = u_charDigitValue(c); digit >= 0) {
    return std::string(1, static_cast<char>('0' + digit));
  }
  if (const char letter = FramedLetter(c)) return std::string(1, letter);
  if (const char twin = TwinOf(c)) return std::string(1, twin);
  const std::string ascii = Confusable(c);
  const UChar32 lower = u_foldCase(c, U_FOLD_CASE_DEFAULT);
  return ascii == std::string(1, kSeam) && lower != c ? AsciiOf(lower) : ascii;
}

// "littleGirl", with a seam.
icu::UnicodeString WithSeams(const icu::UnicodeString& text) {
  icu::UnicodeString out;
  UChar32 previous = ' ';
  for (int32_t i = 0; i < text.length(); i = text.moveIndex32(i, 1)) {
    const UChar32 c = text.char32At(i);
    if (c == kSeam) continue;
    if (u_charType(previous) == U_LOWERCASE_LETTER && u_charType(c) == U_UPPERCASE_LETTER) {
      out.append(static_cast<char16_t>(kSeam));
    }
    out.append(c);
    previous = c;
  }
  return out;
}

std::string Utf8(const icu::UnicodeString& text) {
  std::string out;
  return text.toUTF8String(out);
}

}  // namespace

Appearance Look(std::string_view text) {
  Appearance look;
  if (std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; })) {
    look.ascii = LookOfAscii(text);
    return look;
  }
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* fold = icu::Normalizer2::getNFKCCasefoldInstance(status);
  const icu::Normalizer2* apart = icu::Normalizer2::getNFKDInstance(status);
  const icu::Normalizer2* together = icu::Normalizer2::getNFCInstance(status);
  RequireIcu(status, "read its normalisation data");
  const icu::UnicodeString source =
      icu::UnicodeString::fromUTF8({text.data(), static_cast<int32_t>(text.size())});
  // Not folded: capitals look like others than their small letters do.
  const icu::UnicodeString parts = apart->normalize(WithSeams(source), status);
  for (int32_t i = 0; i < parts.length(); i = parts.moveIndex32(i, 1)) {
    look.ascii += AsciiOf(parts.char32At(i));
  }
  const icu::UnicodeString folded = fold->normalize(source, status);
  icu::UnicodeString bare;
  const icu::UnicodeString folded_parts = apart->normalize(folded, status);
  for (int32_t i = 0; i < folded_parts.length(); i = folded_parts.moveIndex32(i, 1)) {
    const UChar32 c = folded_parts.char32At(i);
    if (!IsUnseen(c)) bare.append(c);
  }
  look.folded = Utf8(folded);
  look.bare = Utf8(together->normalize(bare, status));
  RequireIcu(status, "normalise a text");
  return look;
}

}  // namespace excise
