#include "experiments/tables/render.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>

#include "core/escape.h"
#include "core/text.h"
#include "experiments/run/report.h"
#include "experiments/tables/text_layout.h"
#include "tests/hostile_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

// Records of RFC 4180, read in the plainest way: quotes doubled inside quotes.
std::vector<std::vector<std::string>> ReadCsvText(const std::string& text) {
  std::vector<std::vector<std::string>> records = {{""}};
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        records.back().back() += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        records.back().back() += text[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      records.back().emplace_back();
    } else if (c == '\n') {
      records.push_back({""});
    } else {
      records.back().back() += c;
    }
  }
  records.pop_back();  // the last line ends
  return records;
}

size_t IndexOf(const std::vector<std::string>& header, const std::string& name) {
  const auto found = std::find(header.begin(), header.end(), name);
  REQUIRE(found != header.end());
  return static_cast<size_t>(found - header.begin());
}

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// No byte that a terminal, editor or reader would obey.
bool IsHarmlessText(const std::string& text) {
  for (const unsigned char c : text) {
    if ((c < 0x20 && c != '\n') || c == 0x7f) return false;
  }
  for (const char* hidden : {"\u202e", "\u2066", "\u200b", "\ufeff", "\u2028"}) {
    if (text.find(hidden) != std::string::npos) return false;
  }
  // What is not UTF-8 would be escaped again.
  std::string line;
  for (std::istringstream in(text); std::getline(in, line);) {
    if (Escape(line, Format::kTerminal) != line) return false;
  }
  return true;
}

bool Have(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0;
}

// Runs pdflatex as nobody would trust it to: no shell, no way on after an error.
void CheckCompiles(const std::string& tex) {
  const fs::path folder = TestFolder("latex");
  std::ofstream(folder / "table.tex", std::ios::binary) << tex;
  const std::string command =
      "cd '" + folder.string() + "' && HOME='" + folder.string() +
      "' timeout 120 pdflatex -no-shell-escape -halt-on-error -interaction=nonstopmode table.tex "
      "> out 2>&1";
  const int status = std::system(command.c_str());
  INFO(ReadAll(folder / "out"));
  CHECK(status == 0);
  CHECK(fs::exists(folder / "table.pdf"));
}

}  // namespace

TEST_CASE("CSV has one line for every record and for each of its parts") {
  Results results = MadeUpResults();
  Record kept = MadeUpRecord("good", "none", "retention", MadeUpRate(100, 50));
  kept.score.parts = {{"near", 0.25}, {"near_n", 40.0}, {"blocked", 0.0}};
  results.records.push_back(kept);
  Record failed = kept;
  failed.status = "error";
  failed.reason = "it broke, twice";
  results.records.push_back(failed);
  const auto lines = ReadCsvText(RenderCsv(results));
  const std::vector<std::string>& header = lines.front();
  const size_t records = results.records.size();
  size_t parts = 2;  // near, blocked
  for (const Record& record : results.records) {
    if (record.metric == "asr") parts += record.score.parts.size();
  }
  REQUIRE(lines.size() == 1 + records + parts);
  for (const auto& line : lines) CHECK(line.size() == header.size());
  const auto field = [&](size_t line, const std::string& name) {
    return lines[line][IndexOf(header, name)];
  };
  const size_t last = lines.size() - 1;
  CHECK(field(last, "status") == "error");
  CHECK(field(last, "reason") == "it broke, twice");
  CHECK(field(last, "value").empty());
  CHECK(field(last, "n").empty());
  CHECK(field(last, "eligible") == "120");
  CHECK(field(last - 1, "part") == "near");
  CHECK(field(last - 1, "value") == "0.25");
  CHECK(field(last - 1, "n") == "40");
  // Wilson's interval of 10 / 40 is [0.1419, 0.4019].
  CHECK(std::stod(field(last - 1, "ci95_low")) == Approx(0.1419).margin(5e-5));
  CHECK(std::stod(field(last - 1, "ci95_high")) == Approx(0.4019).margin(5e-5));
  CHECK(field(last - 2, "part") == "blocked");
  CHECK(field(last - 2, "n").empty());
  CHECK(field(last - 3, "part").empty());
  CHECK(field(last - 3, "value") == "0.5");
  CHECK(field(last - 3, "reference_row") == "false");
  CHECK(field(1, "reference_row") == "true");
}

TEST_CASE("CSV stays a grid without formulas, whatever the names") {
  for (const std::string& hostile : HostileTexts()) {
    const Results results = HostileResults(hostile);
    const std::string csv = RenderCsv(results);
    INFO(csv.substr(0, 2000));
    CHECK(IsHarmlessText(csv));
    const auto lines = ReadCsvText(csv);
    CHECK(lines.size() > results.records.size());
    for (const auto& line : lines) {
      CHECK(line.size() == lines.front().size());
      for (const std::string& field : line) {
        const size_t start = field.find_first_not_of(' ');
        if (start == std::string::npos) continue;
        char* end = nullptr;
        std::strtod(field.c_str(), &end);
        if (*end == '\0') continue;  // a number
        CHECK(std::string("=+-@").find(field[start]) == std::string::npos);
      }
    }
  }
}

TEST_CASE("Markdown keeps its cells and is no HTML, whatever the names") {
  for (const std::string& hostile : HostileTexts()) {
    const std::string table = RenderMarkdown(DescribeTable(HostileResults(hostile)));
    INFO(table);
    CHECK(IsHarmlessText(table));
    CHECK(table.find('<') == std::string::npos);
    CHECK_FALSE(std::regex_search(table, std::regex("[^\\\\]\\]\\(")));
    CHECK(table.find("http:") == std::string::npos);
    // Every line of one table has as many bars as its header.
    size_t bars = 0;
    for (const std::string& line : Lines(table)) {
      if (line.empty() || line[0] != '|') {
        bars = 0;
        continue;
      }
      size_t own = 0;
      for (size_t i = 0; i < line.size(); ++i) own += line[i] == '|' && line[i - (i > 0)] != '\\';
      if (bars == 0) bars = own;
      CHECK(own == bars);
    }
  }
}

TEST_CASE("text for a terminal is safe and no wider than it, whatever the names") {
  for (const std::string& hostile : HostileTexts()) {
    const Document document = DescribeTable(HostileResults(hostile));
    for (const size_t width : {size_t{60}, size_t{100}, size_t{140}}) {
      const std::string table = RenderText(document, width);
      INFO(table);
      CHECK(IsHarmlessText(table));
      for (const std::string& line : Lines(table)) {
        // A single word, or the names of rows beside one column, may be wider.
        if (TextWidth(line) > width) CHECK(TextWidth(line) <= width + 2 * TextWidth(hostile) + 40);
      }
    }
  }
}

TEST_CASE("text for a terminal has no markup, marks the best and keeps values in line") {
  const std::string table = RenderText(DescribeTable(MadeUpResults()), 100);
  INFO(table);
  for (const char* markup : {"|", "**", "\\", "&", "`"}) CHECK_THAT(table, !Contains(markup));
  CHECK_THAT(table, Contains("\nmethod  uses") && Contains("\n------  ----"));
  CHECK_THAT(table,
             Contains(" 98 [94-100]    ") && Contains(" 5 [2-10] *") && Contains(" 7 [3-13] ="));
  CHECK_THAT(
      table,
      Contains("*: best beside the reference rows none; =: not significantly different from it"));
  // The same table, the same words; only their marks and lines differ.
  CHECK_THAT(table, Contains("Below none without attack"));
}

TEST_CASE("a wide header stands on several lines, and what does not fit goes on below") {
  Results results = MadeUpResults();
  for (int i = 0; i < 12; ++i) {
    for (const char* method : {"none", "good", "near", "poor"}) {
      results.records.push_back(MadeUpRecord(method, fmt::format("attack_with_a_long_name_{}", i),
                                             "asr", MadeUpRate(120, 120)));
    }
  }
  for (const size_t width : {size_t{60}, size_t{80}, size_t{100}, size_t{200}}) {
    const std::string table = RenderText(DescribeTable(results), width);
    INFO(table);
    for (const std::string& line : Lines(table)) CHECK(TextWidth(line) <= width);
    CHECK_THAT(table, Contains("name_11 ↓"));
  }
}

TEST_CASE("Markdown: no line of running text opens a list, wherever it is broken") {
  Results results = MadeUpResults();
  std::string caveat;
  for (int i = 0; i < 200; ++i)
    caveat += "- 1. " + std::string(static_cast<size_t>(i % 17), 'a') + " + == ";
  results.experiment["caveat"] = caveat;
  size_t lines = 0;
  for (const std::string& line : Lines(RenderMarkdown(DescribeTable(results)))) {
    CHECK_FALSE(std::regex_search(line, std::regex("^([-+=]|[0-9]+[.)])")));
    ++lines;
  }
  CHECK(lines > 30);
}

TEST_CASE("LaTeX has intervals, bold bests, marked ties and footnotes") {
  Results results = MadeUpResults();
  for (Record& record : results.records) {
    if (record.method != "poor" || record.attack != "pez" || record.subject != kAllConcepts)
      continue;
    record.status = "error";
    record.reason = "50% of it_broke";
  }
  const std::string tex = RenderLatex(DescribeTable(results));
  INFO(tex);
  CHECK_THAT(tex, Contains("\\textbf{5} {\\scriptsize {[}2, 10{]}}"));
  CHECK_THAT(tex, Contains("7\\textsuperscript{=} {\\scriptsize {[}3, 13{]}}"));
  CHECK_THAT(tex, Contains("error\\textsuperscript{1}"));
  CHECK_THAT(tex, Contains("50\\% of it\\_broke"));
  for (const char* rule : {"\\toprule", "\\midrule", "\\bottomrule", "$\\downarrow$"}) {
    CHECK_THAT(tex, Contains(rule));
  }
  // Each row has as many cells as its tabular has columns.
  const std::regex begin("\\\\begin\\{tabular\\}\\{([lr]+)\\}");
  size_t columns = 0, rows = 0;
  for (const std::string& line : Lines(tex)) {
    std::smatch match;
    if (std::regex_search(line, match, begin)) columns = match[1].str().size();
    if (line.size() < 3 || line.substr(line.size() - 3) != " \\\\") continue;
    ++rows;
    CHECK(static_cast<size_t>(std::count(line.begin(), line.end(), '&')) + 1 == columns);
  }
  CHECK(rows > 5);
}

TEST_CASE("LaTeX lets no command of a name through") {
  for (const std::string& hostile : HostileTexts()) {
    const std::string tex = RenderLatex(DescribeTable(HostileResults(hostile)));
    CHECK(IsHarmlessText(tex));
    for (const char* command : {"\\input{", "\\write", "\\end{document} \\", "^^", "$x_1"}) {
      CHECK_THAT(tex, !Contains(command));
    }
  }
}

TEST_CASE("LaTeX compiles with plain pdflatex, whatever the names") {
  if (!Have("pdflatex")) {
    WARN("SKIPPED: there is no pdflatex (texlive-latex-recommended); nothing was compiled.");
    return;
  }
  CheckCompiles(RenderLatex(DescribeTable(MadeUpResults())));
  // All hostile texts and every character that Escape takes for one of the fonts, in one document.
  std::string all;
  for (const std::string& hostile : HostileTexts()) all += hostile + " ";
  for (char16_t c = 0xa1; c < 0x2200; ++c) {
    std::string utf8;
    if (c < 0x800) {
      utf8 = {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 0x3f))};
    } else {
      utf8 = {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3f)),
              static_cast<char>(0x80 | (c & 0x3f))};
    }
    if (Escape(utf8, Format::kLatex) == utf8) all += utf8 + " ";
  }
  Results results = HostileResults("x");
  results.experiment["caveat"] = all;
  CheckCompiles(RenderLatex(DescribeTable(results)));
  CheckCompiles(RenderLatex(DescribeTable(HostileResults(HostileTexts()[6]))));
}

}  // namespace excise
