// core/csv.h. Input: "csv" or "jsonl" in the first line, then the file. Accepted rows come in order
// and within the limits, hold valid UTF-8, and as CSV survive writing and reading.
#include <set>

#include "core/csv.h"
#include "core/json.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace excise;
using fuzz::Require;

void CheckRows(const RowFile& file, const RowLimits& limits) {
  Require(file.columns.size() <= limits.columns && file.rows.size() <= limits.rows, "limits hold");
  const std::set<std::string> columns(file.columns.begin(), file.columns.end());
  Require(columns.size() == file.columns.size(), "no column twice");
  int64_t line = 0;
  for (const FileRow& row : file.rows) {
    Require(row.line > line, "lines in order");
    line = row.line;
    for (const auto& [column, field] : row.fields) {
      Require(columns.count(column) == 1, "a field of a column");
      Require(field.size() <= limits.field, "a field within its limit");
      Require(field.find('\0') == std::string::npos, "no NUL");
      Require(Json::accept(Json(field).dump()), "UTF-8");
    }
  }
}

std::string Written(const RowFile& file) {
  std::string text = CsvLine(file.columns);
  for (const FileRow& row : file.rows) {
    std::vector<std::string> values;
    for (const std::string& column : file.columns) values.push_back(row.fields.at(column));
    text += CsvLine(values);
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::Text(data, size);
  const bool csv = fuzz::TakeLine(&text) == "csv";
  RowLimits limits;
  limits.field = 400;
  limits.rows = 100;
  limits.columns = 20;
  RowFile file;
  const auto parse = csv ? ParseCsv : ParseJsonl;
  if (!fuzz::Accepts([&] { file = parse(text, "input", limits); })) return 0;
  CheckRows(file, limits);
  if (!csv || file.columns.empty()) return 0;
  const std::string written = Written(file);
  // A byte order mark that stood behind another one would be taken off as the file's own.
  if (written.find("\xef\xbb\xbf") != std::string::npos) return 0;
  const RowFile again = ParseCsv(written, "written");
  Require(again.columns == file.columns && Written(again) == written, "CSV survives writing");
  return 0;
}
