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

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
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
      Contains("*: best beside the reference rows none; =: within 5 points of it (two one-sided"));
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
  results.records.push_back(MadeUpRecord("open", "none", "asr", MadeUpRate(120, 10)));
  results.comparisons = CompareAll(results.records);
  const std::string tex = RenderLatex(DescribeTable(results));
  INFO(tex);
  CHECK_THAT(tex, Contains("\\textbf{5} {\\scriptsize {[}2, 10{]}}"));
  CHECK_THAT(tex, Contains("7\\textsuperscript{=} {\\scriptsize {[}3, 13{]}}"));
  CHECK_THAT(tex, Contains("8\\textsuperscript{$\\sim$} {\\scriptsize {[}5, 15{]}}"));
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
