#include "core/csv.h"

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

std::vector<std::vector<std::string>> Cells(const RowFile& file) {
  std::vector<std::vector<std::string>> out;
  for (const FileRow& row : file.rows) {
    out.emplace_back();
    for (const std::string& column : file.columns) {
      const auto found = row.fields.find(column);
      out.back().push_back(found == row.fields.end() ? "(absent)" : found->second);
    }
  }
  return out;
}

void Refused(const std::string& text, const std::string& message) {
  INFO(text);
  CHECK_THROWS_WITH(ParseCsv(text, "f.csv"), Contains("f.csv") && Contains(message));
}

using Table = std::vector<std::vector<std::string>>;

}  // namespace

// The examples of RFC 4180, section 2.
TEST_CASE("CSV as RFC 4180 writes it") {
  const RowFile file = ParseCsv("name,text\r\naaa,\"b \r\nb\"\r\nzzz,\"a \"\"b\"\", c\"\r\n", "f");
  CHECK(file.columns == std::vector<std::string>{"name", "text"});
  CHECK(Cells(file) == Table{{"aaa", "b \r\nb"}, {"zzz", "a \"b\", c"}});
  CHECK(file.rows[0].line == 2);
  CHECK(file.rows[1].line == 4);
}

TEST_CASE("byte order mark, LF, no last line end, empty fields and lines, spaces, Unicode") {
  CHECK(Cells(ParseCsv("\xEF\xBB\xBF"
                       "a,b\n1,\n\n ,\xE2\x98\x83",
                       "f")) == Table{{"1", ""}, {" ", "\xE2\x98\x83"}});
  CHECK(Cells(ParseCsv("a,b\n\"\",\n,\"\"\n", "f")) == Table{{"", ""}, {"", ""}});
  const RowFile gap = ParseCsv("a\n\n\nx\n\n\"y\n\nz\"\nw\n", "f");
  CHECK(Cells(gap) == Table{{"x"}, {"y\n\nz"}, {"w"}});
  CHECK(gap.rows[0].line == 4);
  CHECK(gap.rows[1].line == 6);
  CHECK(gap.rows[2].line == 9);
  // pandas numbers its rows in a column without a name.
  CHECK(ParseCsv(",prompt\n0,x\n", "f").columns == std::vector<std::string>{"prompt"});
}

TEST_CASE("what is not CSV is refused with its line") {
  Refused("", "empty");
  Refused("\n\n", "empty");
  Refused("a,b\n1,2\n3\n", "line 3: 1 fields where the header has 2");
  Refused("a,b\n1,2,3\n", "line 2: 3 fields");
  Refused("a,b\n1,2\n3,\"x\ny\n", "line 3: a quoted field begins here");
  Refused("a,b\n1,x\"y\"\n", "line 2: a quote");
  Refused("a,b\n1,\"x\"y\n", "line 2: a quote");
  Refused("a,b,a\n", "'a' occurs twice");
  Refused("a,b\n1,\xFF\n", "line 2: bytes that are not UTF-8");
  Refused(std::string("a,b\n1,\0\n", 8), "line 2: a NUL byte");
  Refused("a\x1b[2Jb,a\x1b[2Jb\n", "\\x1b");
}

TEST_CASE("sizes are limited") {
  RowLimits limits;
  limits.bytes = 20;
  CHECK_THROWS_WITH(ParseCsv(std::string(21, 'a'), "f", limits), Contains("at most 20"));
  CHECK_THROWS_WITH(ParseJsonl(std::string(21, ' '), "f", limits), Contains("at most 20"));
  limits = {};
  limits.field = 3;
  CHECK_THROWS_WITH(ParseCsv("a\n1234\n", "f", limits), Contains("line 2: a field of 4 bytes"));
  limits = {};
  limits.rows = 1;
  CHECK_THROWS_WITH(ParseCsv("a\n1\n2\n", "f", limits), Contains("line 3: more than 1 rows"));
  limits.columns = 1;
  CHECK_THROWS_WITH(ParseCsv("a,b\n", "f", limits), Contains("2 columns"));
  CHECK_THROWS_WITH(ParseJsonl("{\"a\":1,\"b\":2}\n", "f", limits), Contains("1 different keys"));
}

TEST_CASE("JSONL") {
  const RowFile file =
      ParseJsonl("{\"p\": \"a\\nb\", \"n\": 3}\r\n\n{\"p\": \"c\", \"t\": true, \"n\": null}", "f");
  CHECK(file.columns == std::vector<std::string>{"n", "p", "t"});
  CHECK(Cells(file) == Table{{"3", "a\nb", "(absent)"}, {"(absent)", "c", "true"}});
  CHECK(file.rows[1].line == 3);
  const auto refused = [](const std::string& text, const std::string& message) {
    CHECK_THROWS_WITH(ParseJsonl(text, "f.jsonl"),
                      Contains("f.jsonl, line 2") && Contains(message));
  };
  refused("{}\n[1]\n", "expected an object");
  refused("{}\n{\"a\": [1]}\n", "a list or an object");
  refused("{}\n{\"a\": 1, \"a\": 2}\n", "a");
  refused("{}\n{\"a\": \n", "");
  refused("{}\n{\"a\": \"\xFF\"}\n", "UTF-8");
}

TEST_CASE("files are read by their names, and lines are written so that they read back") {
  const std::filesystem::path folder = TestFolder("csv");
  const std::vector<std::string> values = {"", " a ", "b,c", "d\"e", "f\r\ng", "=1+1", "plain"};
  std::vector<std::string> header;
  for (size_t i = 0; i < values.size(); ++i) header.push_back("c" + std::to_string(i));
  std::ofstream(folder / "f.csv", std::ios::binary) << CsvLine(header) << CsvLine(values);
  CHECK(Cells(ReadRows(folder / "f.csv")) == Table{values});
  CHECK(CsvLine({"", "x"}) == "\"\",x\r\n");
  CHECK(CsvLine({"x"}) == "x\r\n");
  std::ofstream(folder / "f.jsonl") << "{\"a\": 1}\n";
  CHECK(Cells(ReadRows(folder / "f.jsonl")) == Table{{"1"}});
  CHECK_THROWS_AS(ReadRows(folder / "f.txt"), UsageError);
  CHECK_THROWS_WITH(ReadRows(folder / "none.csv"), Contains("none.csv"));
}

TEST_CASE("lines that end with CR, LF or CRLF are counted and split alike") {
  for (const std::string end : {"\r", "\n", "\r\n"}) {
    const std::string text = "a,b" + end + "1,\"x" + end + "y\"" + end + "2,z" + end;
    const RowFile file = ParseCsv(text, "test.csv", {});
    REQUIRE(file.rows.size() == 2);
    CHECK(file.rows[0].line == 2);
    CHECK(file.rows[0].fields.at("b") == "x" + end + "y");
    CHECK(file.rows[1].line == 4);
    CHECK(file.rows[1].fields.at("a") == "2");
  }
}

}  // namespace excise
