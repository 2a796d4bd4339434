#include "datasets/formats/user_prompts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <set>

#include "core/error.h"
#include "core/escape.h"
#include "core/hash.h"
#include "core/input_files.h"
#include "core/text.h"
#include "datasets/formats/minors.h"

namespace excise {
namespace {

std::string Shown(const std::string& text) { return Escape(text, Format::kTerminal); }

std::string Shown(const std::vector<std::string>& names) { return Shown(Joined(names)); }

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
  const InputFile before(path_);
  sha256_ = Sha256HexOfFile(path_);
  Check(file);
  file_ = ReadRows(path_);
  before.RequireUnchanged();
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
  const std::string wanted = LowerAscii(file.sha256);
  if (wanted.empty()) return;
  if (wanted.size() < 8 || wanted.find_first_not_of("0123456789abcdef") != wanted.npos) {
    throw UsageError(
        fmt::format("sha256 '{}': 8 to 64 hexadecimal digits are expected.", Shown(file.sha256)));
  }
  if (!StartsWith(sha256_, wanted)) {
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
    if (equals == given.npos || !IsOneOf(field, known)) {
      throw UsageError(fmt::format("columns: '{}': FIELD=COLUMN is expected, with a field of {}.{}",
                                   Shown(given), Joined(known), DidYouMean(field, known)));
    }
    const std::string column = given.substr(equals + 1);
    if (!IsOneOf(column, file_.columns)) {
      throw UsageError(fmt::format("{}: no column '{}'.{} It has: {}.", Shown(path_), Shown(column),
                                   DidYouMean(column, file_.columns), Shown(file_.columns)));
    }
    column_of_[field] = column;
  }
  std::set<std::string> read;
  for (const FieldNames& one : fields) {
    for (const std::string& column : one.columns) {
      if (Has(one.field) || !IsOneOf(column, file_.columns)) continue;
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
  std::string text(Trimmed(value->second));
  if (text.empty()) return std::nullopt;
  return text;
}

std::string UserTable::Where(const FileRow& row) const {
  return fmt::format("{}, line {}", Shown(path_), row.line);
}

std::string ReasonToExclude(std::string_view text) {
  if (Trimmed(text).empty()) return kEmpty;
  return MentionsMinor(text) ? kMinor : "";
}

std::string ConceptKey(std::string_view text) {
  std::string key = LowerAscii(Trimmed(text));
  for (char& c : key) c = c == ' ' || c == '-' ? '_' : c;
  return key;
}

}  // namespace excise
