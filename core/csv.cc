#include "core/csv.h"

#include <csv.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/escape.h"
#include "core/json.h"
#include "core/progress.h"
#include "core/read_file.h"
#include "core/text.h"

namespace excise {
namespace {

[[noreturn]] void Fail(std::string_view origin, int64_t line, const std::string& what) {
  throw Error(fmt::format("{}, line {}: {}", origin, line, what));
}

std::string Shown(const std::string& text) { return Escape(text.substr(0, 80), Format::kTerminal); }

std::string_view WithoutByteOrderMark(std::string_view bytes) {
  return StartsWith(bytes, "\xEF\xBB\xBF") ? bytes.substr(3) : bytes;
}

void CheckSize(std::string_view bytes, std::string_view origin, const RowLimits& limits) {
  if (bytes.size() <= limits.bytes) return;
  throw Error(fmt::format("{}: {} bytes; at most {} are read. Is this the right file?", origin,
                          bytes.size(), limits.bytes));
}

void CheckLine(std::string_view text, std::string_view origin, int64_t line) {
  if (text.find('\0') != text.npos) {
    Fail(origin, line, "a NUL byte. The file is probably UTF-16 or no text: save it as UTF-8.");
  }
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
  if (ascii) return;  // a million lines are checked in no time
  try {
    CanonicalJson(Json(std::string(text)));
  } catch (const Error&) {
    Fail(origin, line, "bytes that are not UTF-8. Save the file as UTF-8.");
  }
}

void CheckField(const std::string& value, std::string_view origin, int64_t line,
                const RowLimits& limits) {
  if (value.size() <= limits.field) return;
  Fail(origin, line,
       fmt::format("a field of {} bytes; at most {} are read. A quote is probably "
                   "not closed.",
                   value.size(), limits.field));
}

// Calls line(number, text with its end) for every line. Lines end with LF, CRLF or CR: libcsv ends
// a row at each of them. Leaves on a signal, for a file may have millions.
template <class F>
void EachLine(std::string_view bytes, const F& line) {
  int64_t number = 1;
  for (size_t start = 0; start < bytes.size(); ++number) {
    if (number % 4096 == 0 && InterruptRequested()) throw Interrupted{};
    size_t end = std::min(bytes.find_first_of("\r\n", start), bytes.size() - 1) + 1;
    if (bytes[end - 1] == '\r' && end < bytes.size() && bytes[end] == '\n') ++end;
    line(number, bytes.substr(start, end - start));
    start = end;
  }
}

class CsvReader {
 public:
  CsvReader(std::string_view origin, const RowLimits& limits) : origin_(origin), limits_(limits) {
    if (csv_init(&parser_, CSV_STRICT | CSV_STRICT_FINI) != 0) {
      throw Error(fmt::format("{}: libcsv cannot be started.", origin));
    }
    // Spaces belong to their field (RFC 4180, section 2, rule 4).
    csv_set_space_func(&parser_, [](unsigned char) { return 0; });
  }
  ~CsvReader() { csv_free(&parser_); }
  CsvReader(const CsvReader&) = delete;
  CsvReader& operator=(const CsvReader&) = delete;

  RowFile Read(std::string_view bytes) {
    EachLine(bytes, [&](int64_t number, std::string_view line) {
      CheckLine(line, origin_, number);
      if (!open_) row_line_ = number;
      open_ = open_ || line.find_first_not_of("\r\n") != line.npos;
      line_ = number;
      if (csv_parse(&parser_, line.data(), line.size(), OnField, OnRow, this) != line.size()) {
        Malformed();
      }
      Take();
    });
    if (csv_fini(&parser_, OnField, OnRow, this) != 0) {
      Fail(origin_, row_line_,
           "a quoted field begins here and never ends. Close the quote; quotes inside a field are "
           "doubled (\"\").");
    }
    Take();
    if (!header_read_) {
      throw Error(fmt::format("{}: empty; a header with column names is expected.", origin_));
    }
    for (const std::string& column : header_) {
      if (!column.empty()) file_.columns.push_back(column);
    }
    return std::move(file_);
  }

 private:
  static void OnField(void* data, size_t size, void* self) {
    static_cast<CsvReader*>(self)->values_.emplace_back(static_cast<const char*>(data), size);
  }
  // libcsv is C, so nothing may be thrown here. A line holds one row's end at most, unless it has
  // carriage returns of its own.
  static void OnRow(int, void* self) {
    auto* reader = static_cast<CsvReader*>(self);
    reader->ended_.push_back(std::move(reader->values_));
    reader->values_.clear();
  }

  void Take() {
    for (std::vector<std::string>& values : ended_) AddRow(std::move(values));
    if (!ended_.empty()) open_ = false;
    ended_.clear();
  }

  [[noreturn]] void Malformed() const {
    if (csv_error(const_cast<csv_parser*>(&parser_)) == CSV_EPARSE) {
      Fail(origin_, line_,
           "a quote (\") where none may stand. Put the whole field in quotes, with nothing before "
           "or after them, and double the quotes inside it.");
    }
    Fail(origin_, line_, csv_strerror(csv_error(const_cast<csv_parser*>(&parser_))));
  }

  void AddRow(std::vector<std::string> values) {
    for (const std::string& value : values) CheckField(value, origin_, row_line_, limits_);
    if (!header_read_) {
      header_read_ = true;
      header_ = std::move(values);
      CheckHeader();
      return;
    }
    if (values.size() != header_.size()) {
      Fail(origin_, row_line_,
           fmt::format("{} fields where the header has {}. A comma in a text needs quotes around "
                       "it; was the file cut off?",
                       values.size(), header_.size()));
    }
    if (file_.rows.size() >= limits_.rows) {
      Fail(origin_, row_line_, fmt::format("more than {} rows.", limits_.rows));
    }
    FileRow row{row_line_, {}};
    for (size_t i = 0; i < values.size(); ++i) {
      if (!header_[i].empty()) row.fields[header_[i]] = std::move(values[i]);
    }
    file_.rows.push_back(std::move(row));
  }

  void CheckHeader() const {
    if (header_.size() > limits_.columns) {
      Fail(origin_, row_line_,
           fmt::format("{} columns; at most {} are read.", header_.size(), limits_.columns));
    }
    std::set<std::string> seen;
    for (const std::string& column : header_) {
      if (column.empty() || seen.insert(column).second) continue;
      Fail(origin_, row_line_, fmt::format("the column '{}' occurs twice.", Shown(column)));
    }
  }

  csv_parser parser_;
  std::string_view origin_;
  const RowLimits& limits_;
  int64_t line_ = 1, row_line_ = 1;
  bool open_ = false, header_read_ = false;
  std::vector<std::string> header_, values_;
  std::vector<std::vector<std::string>> ended_;
  RowFile file_;
};

std::string TextOf(const Json& value, const std::string& key, std::string_view origin,
                   int64_t line) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_structured()) {
    Fail(origin, line,
         fmt::format("'{}' holds a list or an object; a text, a number, true or "
                     "false is expected.",
                     Shown(key)));
  }
  return value.dump();
}

}  // namespace

RowFile ParseCsv(std::string_view bytes, std::string_view origin, const RowLimits& limits) {
  CheckSize(bytes, origin, limits);
  return CsvReader(origin, limits).Read(WithoutByteOrderMark(bytes));
}

RowFile ParseJsonl(std::string_view bytes, std::string_view origin, const RowLimits& limits) {
  CheckSize(bytes, origin, limits);
  RowFile file;
  std::set<std::string> columns;
  EachLine(WithoutByteOrderMark(bytes), [&](int64_t number, std::string_view line) {
    if (line.find_first_not_of(" \t\r\n") == line.npos) return;
    CheckLine(line, origin, number);
    const Json object = ParseJson(line, fmt::format("{}, line {}", origin, number));
    if (!object.is_object()) {
      Fail(origin, number, fmt::format("expected an object, found {}.", object.type_name()));
    }
    if (file.rows.size() >= limits.rows) {
      Fail(origin, number, fmt::format("more than {} rows.", limits.rows));
    }
    FileRow row{number, {}};
    for (const auto& [key, value] : object.items()) {
      columns.insert(key);
      if (value.is_null()) continue;
      std::string text = TextOf(value, key, origin, number);
      CheckField(text, origin, number, limits);
      row.fields[key] = std::move(text);
    }
    if (columns.size() > limits.columns) {
      Fail(origin, number, fmt::format("more than {} different keys.", limits.columns));
    }
    file.rows.push_back(std::move(row));
  });
  file.columns.assign(columns.begin(), columns.end());
  return file;
}

RowFile ReadRows(const std::filesystem::path& path, const RowLimits& limits) {
  const std::string extension = path.extension().string();
  const bool csv = extension == ".csv" || extension == ".CSV";
  if (!csv && extension != ".jsonl" && extension != ".ndjson") {
    throw UsageError(fmt::format(
        "{}: a .csv file (with a header) or a .jsonl file (an object a line) is expected.",
        path.string()));
  }
  const std::string bytes = ReadFile(path, limits.bytes);
  return csv ? ParseCsv(bytes, path.string(), limits) : ParseJsonl(bytes, path.string(), limits);
}

std::string CsvLine(const std::vector<std::string>& values) {
  std::string line;
  for (const std::string& value : values) {
    std::string field(2 * value.size() + 2, '\0');
    field.resize(csv_write(field.data(), field.size(), value.data(), value.size()));
    if (value.find_first_of(",\"\r\n") == value.npos && !value.empty() && value.front() != ' ' &&
        value.back() != ' ') {
      field = value;
    }
    line += (line.empty() && &value == &values.front() ? "" : ",") + field;
  }
  return line + "\r\n";
}

}  // namespace excise
