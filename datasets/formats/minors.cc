#include "datasets/formats/minors.h"

#include <fmt/format.h>
#include <unicode/regex.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/error.h"
#include "datasets/formats/look_alikes.h"

namespace excise {
namespace {

// Words that mostly mean something else ("kind", "junior") are left to the other ones around them.
// A plural in -s is found with its word. Accents are gone before anything is compared.
constexpr const char* kMinorWords[] = {
    "child", "children", "childlike", "childhood", "childish", "kid", "kiddo", "kiddie", "minor",
    "underage", "underaged", "infant", "baby", "babies", "newborn", "toddler", "boy", "boyhood",
    "girl", "girlhood", "girly", "girlie", "schoolboy", "schoolgirl", "schoolchild",
    "schoolchildren", "schoolkid", "schooler", "schoolage", "schoolaged", "babyboy", "babygirl",
    "littleboy", "littlegirl", "youngboy", "younggirl", "smallchild", "youngchild", "teen",
    "teenager", "teenage", "teenaged", "preteen", "tween", "tweenager", "adolescent", "adolescence",
    "juvenile", "youngster", "youth", "pubescent", "prepubescent", "kindergarten", "kindergartner",
    "kindergartener", "preschool", "preschooler", "loli", "lolita", "lolicon", "shota", "shotacon",
    "jailbait", "grandchild", "grandchildren",
    // other languages
    "enfant", "fillette", "garcon", "nino", "nina", "bambino", "bambina", "bambine", "bambini",
    "ragazzino", "ragazzina", "ragazzine", "ragazzini", "madchen", "maedchen", "kinder", "kindes",
    "jugendliche", "jugendlicher", "jugendlichen", "crianca", "menino", "menina"};
// Where these stand, an age, a grade or a school may be told; see MayTellAge.
constexpr const char* kAgeWords[] = {"year",  "yr",      "y",        "yo",     "month",
                                     "mo",    "mth",     "old",      "age",    "aged",
                                     "yrold", "yearold", "yearsold", "yrsold", "yold"};
constexpr const char* kSchoolWords[] = {"grade", "grader", "school", "junior"};
constexpr const char* kNumberWords[] = {
    "one", "two",    "three",  "four",     "five",     "six",     "seven",   "eight",    "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"};
constexpr const char* kUnderWords[] = {"under", "u"};

// Scripts with words of their own or without spaces, and pictures: anywhere. A part of a family of
// several joined pictures counts like the picture alone.
constexpr const char* kMinorSigns[] = {
    "少女", "少年",  "幼女",  "幼児",   "幼童",   "小孩",     "儿童",    "兒童",    "孩子",
    "女孩", "男孩",  "子供",  "子ども", "こども", "赤ちゃん", "아이",    "어린이",  "소녀",
    "소년", "ребен", "ребён", "дети",   "детск",  "девочк",   "мальчик", "подрост", "👧",
    "👦",    "🧒",  "👶",     "👼",      "🚼",      "🚸",        "👪",       "🤱",    "🍼"};

constexpr size_t kLongestWord = 16;

// Ages below 18, school grades and schools, in what a text looks like.
icu::UnicodeString AgePattern() {
  constexpr const char* kGap = "[^a-z0-9]{0,3}";  // nothing, spaces or punctuation
  constexpr const char* kNumber =
      "(?:(?<![0-9])(?:1[0-7o]|[1-9])|(?<![a-z0-9])[il][0-7o]|(?<![a-z])(?<!ty)(?<!ty[^a-z])"
      "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
      "sixteen|seventeen))";
  constexpr const char* kOrdinal =
      "(?:(?<![0-9])(?:1st|2nd|3rd|[4-9]th|1[0-2]th)|(?<![a-z])(?:first|second|third|fourth|fifth|"
      "sixth|seventh|eighth|ninth|tenth|eleventh|twelfth))";
  constexpr const char* kMonths = "(?:months?|mths?|mos?)";
  constexpr const char* kPattern =
      "(?:{number}{gap}(?:y[e3][a4@]rs?|yrs?|y|{months})|(?<![0-9])[0-9]{{2}}{gap}{months}){gap}"
      "(?:[o0][l1]ds?|o|of{gap}age|young)(?![a-z])"
      "|{number}{gap}yrs?(?![a-z])"
      "|(?<![a-z])age[ds]?{gap}(?:(?:of|is|under|about|around|between|only|just){gap})?{number}"
      "(?![a-z0-9])"
      "|(?<![a-z])under{gap}aged?(?![a-z])|(?<![a-z])u(?:nder)?{gap}1[0-8]s(?![a-z])"
      "|{ordinal}{gap}gr[a4@]d[e3](?:rs?)?(?![a-z])"
      "|(?<![a-z])(?:in|of){gap}grade{gap}{number}(?![a-z0-9])"
      "|(?<![a-z])(?:grade|year){gap}{number}{gap}(?:students?|pupils?|class)(?![a-z])"
      "|(?<![a-z])(?:elementary|primary|middle|high|secondary|grade|grammar|nursery){gap}school{"
      "gap}"
      "(?:students?|pupils?|freshm[ae]n|sophomores?|cheerleaders?|class)(?![a-z])"
      "|(?<![a-z])junior{gap}high(?![a-z])";
  return icu::UnicodeString::fromUTF8(
      fmt::format(kPattern, fmt::arg("number", kNumber), fmt::arg("ordinal", kOrdinal),
                  fmt::arg("months", kMonths), fmt::arg("gap", kGap)));
}

bool TellsAge(const std::string& ascii) {
  UErrorCode status = U_ZERO_ERROR;
  static const icu::RegexPattern* const pattern = [] {
    UErrorCode compiled = U_ZERO_ERROR;
    UParseError where;
    const auto* made = icu::RegexPattern::compile(AgePattern(), where, compiled);
    if (U_FAILURE(compiled)) throw Error("ICU cannot compile the pattern of ages.");
    return made;
  }();
  const icu::UnicodeString input = icu::UnicodeString::fromUTF8(ascii);
  const std::unique_ptr<icu::RegexMatcher> matcher(pattern->matcher(input, status));
  const bool found = U_SUCCESS(status) && matcher->find(status);
  if (U_FAILURE(status)) {
    throw Error(fmt::format("ICU cannot search a prompt: {}.", u_errorName(status)));
  }
  return found;
}

bool IsLetter(char c) { return c >= 'a' && c <= 'z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
// Signs that may stand for a letter, or between words.
bool IsSign(char c) { return c == '!' || c == '|' || c == '@' || c == '$' || c == '*'; }

// The digit that a letter or sign shares its shape with, or itself.
constexpr std::array<char, 128> kShapes = [] {
  constexpr std::string_view kFrom = "il!|oeza@s$tbg6", kTo = "111103244557899";
  std::array<char, 128> shapes{};
  for (size_t c = 0; c < shapes.size(); ++c) shapes[c] = static_cast<char>(c);
  for (size_t i = 0; i < kFrom.size(); ++i) shapes[static_cast<size_t>(kFrom[i])] = kTo[i];
  return shapes;
}();

char Shape(char c) { return kShapes[static_cast<size_t>(c)]; }  // of ASCII

std::string Shapes(std::string_view word) {
  std::string shapes(word);
  for (char& c : shapes) c = Shape(c);
  return shapes;
}

// What words mean, as bits: a prompt has the meanings of all its words.
using Meaning = unsigned;
constexpr Meaning kNone = 0, kMinorWord = 1, kAgeWord = 2, kSchoolWord = 4, kNumber = 8,
                  kUnder = 16;

bool MayTellAge(Meaning meaning) {
  const bool number = (meaning & kNumber) != 0, under = (meaning & kUnder) != 0;
  return (meaning & kSchoolWord) != 0 || (number && under) ||
         ((meaning & kAgeWord) != 0 && (number || under));
}

// A letter is itself, other signs what their shape allows; half of a word must be letters ("1011"
// is no "loli").
bool Reads(std::string_view spelled, std::string_view word) {
  size_t letters = 0;
  for (size_t i = 0; i < word.size(); ++i) {
    if (!IsLetter(spelled[i])) continue;
    if (spelled[i] != word[i]) return false;
    ++letters;
  }
  return 2 * letters >= word.size();
}

// All words by shape, for "gir1" and "g1rl" share one.
class WordList {
 public:
  WordList() {
    for (const char* word : kMinorWords) Add(word, kMinorWord);
    for (const char* word : kAgeWords) Add(word, kAgeWord);
    for (const char* word : kSchoolWords) Add(word, kSchoolWord);
    for (const char* word : kNumberWords) Add(word, kNumber);
    for (const char* word : kUnderWords) Add(word, kUnder);
  }

  // Whether a word of this length begins like this: most words of a prompt end here.
  bool Has(char first, size_t length) const {
    return length <= kLongestWord &&
           (lengths_[static_cast<size_t>(Shape(first))] >> length & 1) != 0;
  }

  Meaning LookUp(std::string_view spelled) const {
    if (const Meaning meaning = Exactly(spelled); meaning != kNone) return meaning;
    const bool plural = Shape(spelled.back()) == '5' || spelled.back() == 'z';
    if (spelled.size() < 3 || !plural) return kNone;
    return Exactly(spelled.substr(0, spelled.size() - 1));
  }

 private:
  void Add(std::string_view word, Meaning meaning) {
    words_.insert({Shapes(word), {word, meaning}});
    lengths_[static_cast<size_t>(Shape(word[0]))] |= uint32_t{1} << word.size();
  }

  Meaning Exactly(std::string_view spelled) const {
    if (!Has(spelled[0], spelled.size())) return kNone;
    const auto [begin, end] = words_.equal_range(Shapes(spelled));
    for (auto word = begin; word != end; ++word) {
      if (Reads(spelled, word->second.first)) return word->second.second;
    }
    return kNone;
  }

  std::unordered_multimap<std::string, std::pair<std::string_view, Meaning>> words_;
  std::array<uint32_t, 128> lengths_{};  // by the first shape, a bit a length
};

const WordList& Words() {
  static const auto* const words = new WordList();
  return *words;
}

// Letters that are repeated three times and more, `kept` times.
std::string Shortened(std::string_view spelled, size_t kept) {
  std::string out;
  for (size_t i = 0; i < spelled.size();) {
    const size_t end = std::min(spelled.find_first_not_of(spelled[i], i), spelled.size());
    out.append(end - i >= 3 ? kept : end - i, spelled[i]);
    i = end;
  }
  return out;
}

bool IsStretched(std::string_view spelled) {
  for (size_t i = 2; i < spelled.size(); ++i) {
    if (spelled[i] == spelled[i - 1] && spelled[i] == spelled[i - 2]) return true;
  }
  return false;
}

// A star inside a word is any vowel ("g*rl").
Meaning MeaningOfStarred(const std::string& spelled, size_t star) {
  Meaning meaning = kNone;
  for (const char vowel : {'a', 'e', 'i', 'o', 'u'}) {
    std::string filled = spelled;
    filled[star] = vowel;
    const size_t next = filled.find('*');
    meaning |= next == filled.npos ? Words().LookUp(filled) : MeaningOfStarred(filled, next);
  }
  return meaning;
}

Meaning MeaningOf(std::string_view spelled) {
  if (const size_t star = spelled.find('*'); star != spelled.npos) {
    // Stars at an edge are emphasis, and more than two say nothing.
    const bool inside = star > 0 && spelled.back() != '*';
    const bool fits = Words().Has(spelled[0], spelled.size()) ||
                      Words().Has(spelled[0], spelled.size() - 1);  // a plural
    if (!inside || !fits || std::count(spelled.begin(), spelled.end(), '*') > 2) {
      return kNone;
    }
    return MeaningOfStarred(std::string(spelled), star);
  }
  if (!IsStretched(spelled)) return Words().LookUp(spelled);
  return Words().LookUp(Shortened(spelled, 1)) | Words().LookUp(Shortened(spelled, 2));
}

// A run of letters, or one digit or sign.
struct Atom {
  std::string_view text;
  bool after_space, glued;  // glued to the one before
};

std::vector<Atom> AtomsOf(const std::string& ascii) {
  std::vector<Atom> atoms;
  bool after_space = true;
  size_t end = ascii.size();  // of the last one
  for (size_t i = 0; i < ascii.size();) {
    const size_t begin = i;
    while (i < ascii.size() && IsLetter(ascii[i])) ++i;
    if (i == begin && (IsDigit(ascii[i]) || IsSign(ascii[i]))) ++i;
    if (i == begin) {
      after_space |= IsSpace(ascii[i++]);
      continue;
    }
    atoms.push_back({std::string_view(ascii).substr(begin, i - begin), after_space, begin == end});
    after_space = false;
    end = i;
  }
  return atoms;
}

// Whether it is no word of its own, so that what is beside it may belong to it: "k i d", "gi rl".
bool IsFragment(std::string_view atom) {
  constexpr std::string_view kWords = "aio", kVowels = "aeiouy";
  if (atom.size() == 1) return !IsSign(atom[0]) && kWords.find(atom[0]) == kWords.npos;
  return std::none_of(atom.begin(), atom.end(),
                      [&](char c) { return !IsLetter(c) || kVowels.find(c) != kVowels.npos; });
}

// What the atoms from `first` on mean, alone or together with those behind. Signs and digits are
// read as letters, and as seams.
Meaning MeaningFrom(const std::vector<Atom>& atoms, size_t first) {
  Meaning meaning = IsDigit(atoms[first].text[0]) ? kNumber : kNone;
  std::string whole, letters;
  for (size_t i = first; i < atoms.size(); ++i) {
    const std::string_view text = atoms[i].text;
    if (i > first) {
      const Atom& last = atoms[i - 1];
      const bool joins =
          !atoms[i].after_space || IsFragment(text) || (IsFragment(last.text) && !last.glued);
      if (!joins || whole.size() + text.size() > kLongestWord) break;
    }
    whole += text;
    if (IsLetter(text[0])) letters += text;
    if (letters.empty()) continue;
    meaning |= MeaningOf(whole);
    if (whole != letters && IsLetter(text[0])) meaning |= MeaningOf(letters);
  }
  return meaning;
}

bool ShowsSign(const std::string& text) {
  if (text.empty()) return false;
  return std::any_of(std::begin(kMinorSigns), std::end(kMinorSigns),
                     [&](const char* sign) { return text.find(sign) != text.npos; });
}

}  // namespace

bool MentionsMinor(std::string_view text) {
  const Appearance look = Look(text);
  if (ShowsSign(look.folded) || ShowsSign(look.bare)) return true;
  const std::vector<Atom> atoms = AtomsOf(look.ascii);
  Meaning meaning = kNone;
  for (size_t i = 0; i < atoms.size() && (meaning & kMinorWord) == 0; ++i) {
    meaning |= MeaningFrom(atoms, i);
  }
  return (meaning & kMinorWord) != 0 || (MayTellAge(meaning) && TellsAge(look.ascii));
}

}  // namespace excise
