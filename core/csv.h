// Tables of text made elsewhere: CSV (RFC 4180, with a header) and JSONL (an object a line), both
// as rows of named fields.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace excise {

struct FileRow {
  int64_t line = 0;                           // on which it begins, from 1
  std::map<std::string, std::string> fields;  // by column; JSON null and missing keys are absent
};

struct RowFile {
  std::vector<std::string> columns;  // CSV: in order; JSONL: all keys, sorted
  std::vector<FileRow> rows;
};

struct RowLimits {
  uint64_t bytes = uint64_t{256} << 20;  // of the file
  uint64_t field = uint64_t{1} << 20;    // bytes of one field
  size_t rows = 2'000'000, columns = 1000;
};

// CSV: quoted fields may hold commas, quotes ("") and line ends; LF, CRLF or CR; a UTF-8 byte order
// mark is skipped, and so are empty lines; spaces belong to their field. Unnamed columns (row
// numbers that pandas writes) are left out. Throws Error naming `origin` and the line: no header, a
// column twice, a row of another length, text after a closing quote, a quote that is never closed,
// bytes that are not UTF-8, NUL, and what is beyond `limits`.
RowFile ParseCsv(std::string_view bytes, std::string_view origin, const RowLimits& limits = {});

// JSONL: numbers and booleans are kept as their JSON text; a list or object as a value is an Error.
RowFile ParseJsonl(std::string_view bytes, std::string_view origin, const RowLimits& limits = {});

// A file, by its name: .csv, .jsonl or .ndjson (UsageError for any other).
RowFile ReadRows(const std::filesystem::path& file, const RowLimits& limits = {});

// One line of CSV with its line end (CRLF), quoted by RFC 4180, the values as they are: for
// programs to read, not for spreadsheets.
std::string CsvLine(const std::vector<std::string>& values);

}  // namespace excise
