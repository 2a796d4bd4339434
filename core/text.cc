#include "core/text.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

namespace excise {
namespace {

constexpr std::string_view kWhiteSpace = " \t\r\n\v\f";

// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] =
          std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string LowerAscii(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view Trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kWhiteSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kWhiteSpace) - first + 1);
}

std::string Joined(const std::vector<std::string>& words, std::string_view between) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += between;
    out += words[i];
  }
  return out;
}

std::vector<std::string> Lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

CodePoint CodePointAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  if (lead < 0x80) return {lead, 1};
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || at + length > text.size()) return {};
  char32_t value = lead & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    if (!ContinuesCharacter(text[at + i])) return {};
    value = value << 6 | (byte(at + i) & 0x3f);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  if (overlong || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {};
  return {value, length};
}

void AppendUtf8(char32_t value, std::string* text) {
  if (value < 0x80) {
    *text += static_cast<char>(value);
    return;
  }
  const int more = value < 0x800 ? 1 : value < 0x10000 ? 2 : 3;
  *text += static_cast<char>((0xff00 >> (more + 1) & 0xff) | value >> (6 * more));
  for (int i = more - 1; i >= 0; --i) {
    *text += static_cast<char>(0x80 | (value >> (6 * i) & 0x3f));
  }
}

bool ContinuesCharacter(char byte) { return (static_cast<uint8_t>(byte) & 0xc0) == 0x80; }

size_t TextWidth(std::string_view text) {
  return text.size() -
         static_cast<size_t>(std::count_if(text.begin(), text.end(), ContinuesCharacter));
}

std::string_view FirstCharacters(std::string_view text, size_t count) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (!ContinuesCharacter(text[i]) && count-- == 0) return text.substr(0, i);
  }
  return text;
}

std::string Base64(std::string_view bytes) {
  constexpr size_t kPart = 3 << 10;  // OpenSSL counts in int; whole triples need no padding
  std::array<unsigned char, kPart / 3 * 4 + 1> digits;
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += kPart) {
    const std::string_view part = bytes.substr(at, kPart);
    const int size =
        EVP_EncodeBlock(digits.data(), reinterpret_cast<const unsigned char*>(part.data()),
                        static_cast<int>(part.size()));
    out.append(digits.begin(), digits.begin() + size);
  }
  return out;
}

bool IsOneOf(std::string_view name, const std::vector<std::string>& known) {
  return std::find(known.begin(), known.end(), name) != known.end();
}

std::string Suggest(std::string_view name, const std::vector<std::string>& known) {
  constexpr size_t kLongest = 100;  // hostile names must not cost quadratic time
  if (name.size() > kLongest) return "";
  const std::string wanted = LowerAscii(name);
  std::string best;
  size_t best_distance = std::numeric_limits<size_t>::max();
  for (const std::string& word : known) {
    if (word.size() > kLongest) continue;
    const std::string candidate = LowerAscii(word);
    size_t distance = EditDistance(wanted, candidate);
    // A beginning or an end of a longer name ("tropical" for "tropical_fish") counts as near.
    if (wanted.size() >= 3 && candidate.size() > wanted.size() &&
        (StartsWith(candidate, wanted) || EndsWith(candidate, wanted))) {
      distance = std::min<size_t>(distance, 1);
    }
    const size_t allowed = std::max<size_t>(1, std::min(wanted.size(), candidate.size()) / 3);
    // Of one-letter names every other one is a neighbour: no suggestion is better.
    if (distance > allowed || distance >= std::max(wanted.size(), candidate.size())) continue;
    if (distance < best_distance || (distance == best_distance && word < best)) {
      best = word;
      best_distance = distance;
    }
  }
  return best;
}

std::string DidYouMean(std::string_view name, const std::vector<std::string>& known) {
  const std::string near = Suggest(name, known);
  return near.empty() ? "" : " Did you mean '" + near + "'?";
}

std::string DidYouMeanOrKnown(std::string_view name, const std::vector<std::string>& known) {
  return DidYouMean(name, known) + " Known: " + Joined(known) + ".";
}

}  // namespace excise
