#include "datasets/user_prompts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unicode/normalizer2.h>
#include <unicode/regex.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <memory>
#include <set>

#include "core/error.h"
#include "core/escape.h"
#include "core/hash.h"

namespace excise {
namespace {

// Whole words, after case folding and compatibility normalisation. Words that mostly mean something
// else ("kind", "junior") are left to the other ones around them.
constexpr const char* kMinorWords =
    "\\b(child(ren|ren's|'s|like|hood|ish)?|kids?|kiddos?|minors?|under-?\\s?aged?|infants?|"
    "bab(y|ies)|newborns?|toddlers?|boys?|girls?|girly|schoolboys?|schoolgirls?|schoolchild(ren)?|"
    "school-?\\s?kids?|teens?|teenagers?|teenaged?|pre-?teens?|tweens?|adolescents?|adolescence|"
    "juveniles?|youngsters?|youths?|pubescents?|prepubescents?|kindergart(en|ners?|eners?)|"
    "preschool(ers?)?|lolis?|lolitas?|lolicon|shotas?|shotacon|jailbait|grandchild(ren)?|"
    "enfants?|fillettes?|gar[cç]ons?|ni[nñ][oa]s?|bambin[oaie]|"
    "ragazzin[oaie]|m[aä]dchen|kinder|kindes|jugendliche[rn]?|crian[cç]as?|menin[oa]s?|"
    "(1[0-7]|[1-9])[\\s-]*(years?|yrs?|y)[\\s.-]*(old|o)\\b|(1[0-7]|[1-9])\\s?(yo|y/o)|"
    "age[ds]?[\\s:]*(of\\s)?(1[0-7]|[1-9])\\b|"
    "(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|"
    "sixteen|seventeen)[\\s-]*years?[\\s-]*olds?)\\b";
// Scripts without spaces between words: anywhere.
constexpr const char* kMinorSigns =
    "(少女|少年|幼女|幼児|幼童|小孩|儿童|兒童|孩子|女孩|男孩|子供|子ども|こども|赤ちゃん|아이|"
    "어린이|소녀|"
    "소년|ребен|ребён|дети|детск|девочк|мальчик|подрост)";

bool Finds(const char* pattern, const icu::UnicodeString& text) {
  UErrorCode status = U_ZERO_ERROR;
  icu::RegexMatcher matcher(icu::UnicodeString::fromUTF8(pattern), text, 0, status);
  const bool found = matcher.find(status);
  if (U_FAILURE(status)) {
    throw Error(fmt::format("ICU cannot search a prompt: {}.", u_errorName(status)));
  }
  return found;
}

// Letters for the digits and signs that stand for them; `one` is read for 1.
icu::UnicodeString WithoutLeet(const icu::UnicodeString& text, char16_t one) {
  static constexpr std::pair<char16_t, char16_t> kSigns[] = {
      {u'0', u'o'}, {u'3', u'e'}, {u'4', u'a'}, {u'5', u's'},
      {u'7', u't'}, {u'@', u'a'}, {u'$', u's'}, {u'!', u'i'}};
  icu::UnicodeString out = text;
  for (int32_t i = 0; i < out.length(); ++i) {
    if (out[i] == u'1') out.setCharAt(i, one);
    for (const auto& [sign, letter] : kSigns) {
      if (out[i] == sign) out.setCharAt(i, letter);
    }
  }
  return out;
}

std::string Trimmed(const std::string& text) {
  const char* spaces = " \t\r\n\v\f";
  const size_t begin = text.find_first_not_of(spaces);
  return begin == text.npos ? "" : text.substr(begin, text.find_last_not_of(spaces) - begin + 1);
}

std::string Shown(const std::string& text) { return Escape(text, Format::kTerminal); }

std::string Shown(const std::vector<std::string>& names) {
  return Shown(fmt::format("{}", fmt::join(names, ", ")));
}

bool Contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

std::string LowerHex(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

void UserFile::Fields(ParamVisitor& v) {
  v.Path("file", &path, "the prompts: .csv with a header, or .jsonl");
  v.Text("sha256", &sha256, "the file's SHA-256, or a beginning of it, that is expected");
  v.Integer("bytes", &bytes, "the file's size that is expected; 0 = any", {.min = 0});
  v.Integer("rows", &rows, "rows that are expected; 0 = any", {.min = 0});
  v.Texts("columns", &columns, "other column names, as prompt=caption");
}

UserTable::UserTable(const UserFile& file, const std::vector<FieldNames>& fields,
                     const std::string& required, std::string_view plugin) {
  path_ = file.path;
  if (path_.empty()) {
    throw UsageError(fmt::format("{}: no file is named. Set its parameter 'file'.", plugin));
  }
  if (std::filesystem::is_directory(path_)) {
    throw UsageError(fmt::format("{}: {} is a folder; a .csv or .jsonl file is expected.", plugin,
                                 Shown(path_)));
  }
  sha256_ = Sha256HexOfFile(path_);
  Check(file);
  file_ = ReadRows(path_);
  if (file.rows != 0 && file.rows != static_cast<int64_t>(file_.rows.size())) {
    throw UsageError(
        fmt::format("{}: {} rows where {} are expected: another version of the list, "
                    "or a copy that was cut off.",
                    Shown(path_), file_.rows.size(), file.rows));
  }
  FindColumns(file, fields);
  if (Has(required)) return;
  std::vector<std::string> names;
  for (const FieldNames& one : fields) {
    if (one.field == required) names = one.columns;
  }
  throw UsageError(
      fmt::format("{}: no column for '{}'. Looked for: {}. The file has: {}. Name the column with "
                  "the parameter "
                  "columns, as [\"{}=NAME\"]; a CSV file without a header needs one.",
                  Shown(path_), required, fmt::join(names, ", "), Shown(file_.columns), required));
}

void UserTable::Check(const UserFile& file) const {
  const auto size = static_cast<int64_t>(std::filesystem::file_size(path_));
  if (file.bytes != 0 && size != file.bytes) {
    throw UsageError(
        fmt::format("{}: {} bytes where {} are expected: another version of the list, "
                    "or a copy that was cut off.",
                    Shown(path_), size, file.bytes));
  }
  const std::string wanted = LowerHex(file.sha256);
  if (wanted.empty()) return;
  if (wanted.size() < 8 || wanted.find_first_not_of("0123456789abcdef") != wanted.npos) {
    throw UsageError(
        fmt::format("sha256 '{}': 8 to 64 hexadecimal digits are expected.", Shown(file.sha256)));
  }
  if (sha256_.compare(0, wanted.size(), wanted) != 0 || wanted.size() > sha256_.size()) {
    throw UsageError(
        fmt::format("{}: its SHA-256 is {}, expected {}: another version of the list. "
                    "Numbers on it would not be those of the expected one.",
                    Shown(path_), sha256_, wanted));
  }
}

void UserTable::FindColumns(const UserFile& file, const std::vector<FieldNames>& fields) {
  std::vector<std::string> known;
  for (const FieldNames& one : fields) known.push_back(one.field);
  for (const std::string& given : file.columns) {
    const size_t equals = given.find('=');
    const std::string field = given.substr(0, equals);
    if (equals == given.npos || !Contains(known, field)) {
      const std::string near = Suggest(field, known);
      throw UsageError(fmt::format("columns: '{}': FIELD=COLUMN is expected, with a field of {}.{}",
                                   Shown(given), fmt::join(known, ", "),
                                   near.empty() ? "" : fmt::format(" Did you mean '{}'?", near)));
    }
    const std::string column = given.substr(equals + 1);
    if (!Contains(file_.columns, column)) {
      const std::string near = Suggest(column, file_.columns);
      throw UsageError(fmt::format("{}: no column '{}'.{} It has: {}.", Shown(path_), Shown(column),
                                   near.empty() ? "" : fmt::format(" Did you mean '{}'?", near),
                                   Shown(file_.columns)));
    }
    column_of_[field] = column;
  }
  std::set<std::string> read;
  for (const FieldNames& one : fields) {
    for (const std::string& column : one.columns) {
      if (Has(one.field) || !Contains(file_.columns, column)) continue;
      column_of_[one.field] = column;
    }
    if (Has(one.field)) read.insert(column_of_[one.field]);
  }
  for (const std::string& column : file_.columns) {
    if (read.count(column) == 0) unread_.push_back(column);
  }
}

std::optional<std::string> UserTable::Get(const FileRow& row, const std::string& field) const {
  const auto column = column_of_.find(field);
  if (column == column_of_.end()) return std::nullopt;
  const auto value = row.fields.find(column->second);
  if (value == row.fields.end()) return std::nullopt;
  std::string text = Trimmed(value->second);
  if (text.empty()) return std::nullopt;
  return text;
}

std::string UserTable::Where(const FileRow& row) const {
  return fmt::format("{}, line {}", Shown(path_), row.line);
}

bool MentionsMinor(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* fold = icu::Normalizer2::getNFKCCasefoldInstance(status);
  if (U_FAILURE(status)) {
    throw Error(fmt::format("ICU has no normalisation data: {}.", u_errorName(status)));
  }
  const icu::UnicodeString folded = fold->normalize(
      icu::UnicodeString::fromUTF8({text.data(), static_cast<int32_t>(text.size())}), status);
  for (const icu::UnicodeString& read :
       {folded, WithoutLeet(folded, u'i'), WithoutLeet(folded, u'l')}) {
    if (Finds(kMinorWords, read) || Finds(kMinorSigns, read)) return true;
  }
  return false;
}

std::string ReasonToExclude(std::string_view text) {
  if (Trimmed(std::string(text)).empty()) return kEmpty;
  return MentionsMinor(text) ? kMinor : "";
}

std::string ConceptKey(std::string_view text) {
  std::string key = Trimmed(std::string(text));
  for (char& c : key) {
    c = c == ' ' || c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return key;
}

}  // namespace excise
