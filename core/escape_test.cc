#include "core/escape.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace excise {
namespace {

const std::vector<Format> kAll = {Format::kTerminal, Format::kMarkdown, Format::kCsv,
                                  Format::kLatex, Format::kHtml};

TEST_CASE("harmless text is unchanged everywhere", "[escape]") {
  // Includes an emoji with a joiner and a variation selector, which must stay whole.
  for (const char* text : {"a picture of a poodle", "Weihnachtsmann, nicht", "\u00e9\u4e2d",
                           "\U0001f469\u200d\U0001f680\ufe0f", ""}) {
    for (Format format : kAll) {
      if (format == Format::kCsv && std::string(text).find(',') != std::string::npos) continue;
      if (format == Format::kLatex) continue;  // its fonts lack most characters
      CHECK(Escape(text, format) == text);
    }
  }
}

TEST_CASE("no format lets a control, bidi or invisible character through", "[escape]") {
  std::string hostile;
  for (int c = 0; c < 0x20; ++c) hostile += static_cast<char>(c);
  hostile +=
      "\x7f\u0085\u009b31m\u061c\u200e\u200f\u202a\u202e\u2066\u2069\u200b\u2028\u2029\ufeff";
  hostile +=
      "\U000e0041\x1b[2J\x1b]0;owned\x07\x9b\xff\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82";
  for (Format format : kAll) {
    const std::string safe = Escape(hostile, format);
    for (char c : safe) {
      // Everything that is left is printable ASCII: all the rest was hostile.
      REQUIRE(static_cast<uint8_t>(c) >= 0x20);
      REQUIRE(static_cast<uint8_t>(c) < 0x7f);
    }
  }
  CHECK(Escape("a\nb\tc\rd", Format::kTerminal) == "a\\nb\\tc\\rd");
  CHECK(Escape("\x1b[31m", Format::kTerminal) == "\\x1b[31m");
  CHECK(Escape("x\u202ey", Format::kTerminal) == "x\\u202ey");
  CHECK(Escape("\U000e0041", Format::kTerminal) == "\\U000e0041");
  CHECK(Escape("\xc3", Format::kTerminal) == "\\xc3");           // truncated
  CHECK(Escape("\xc0\xaf", Format::kTerminal) == "\\xc0\\xaf");  // overlong '/'
  CHECK(Escape(std::string("a\0b", 3), Format::kTerminal) == "a\\x00b");
}

TEST_CASE("Markdown: a cell stays a cell and nothing becomes markup", "[escape]") {
  CHECK(Escape("a|b", Format::kMarkdown) == "a\\|b");
  CHECK(Escape("<img src=x onerror=y>", Format::kMarkdown) == "&lt;img src=x onerror=y&gt;");
  CHECK(Escape("[a](javascript:b)", Format::kMarkdown) == "\\[a\\](javascript&#58;b)");
  CHECK(Escape("*a* _b_ `c` ~d~ #1 $x$", Format::kMarkdown) ==
        "\\*a\\* \\_b\\_ \\`c\\` \\~d\\~ \\#1 \\$x\\$");
  CHECK(Escape("@octocat", Format::kMarkdown) == "&#64;octocat");
  CHECK(Escape("https://e.org www.e.org", Format::kMarkdown) == "https&#58;//e.org www&#46;e.org");
  CHECK(Escape("- a", Format::kMarkdown) == "\\- a");
  CHECK(Escape("1. a", Format::kMarkdown) == "1\\. a");
  CHECK(Escape("0.53", Format::kMarkdown) == "0.53");
  // Inside a word an underscore is no emphasis, and a colon before a space no address.
  CHECK(Escape("char_typo: 3", Format::kMarkdown) == "char_typo: 3");
  CHECK(Escape("_a a_ a__b \u00e9_a", Format::kMarkdown) == "\\_a a\\_ a\\_\\_b \u00e9\\_a");
  CHECK(Escape("a :smile: b:", Format::kMarkdown) == "a &#58;smile: b&#58;");
  CHECK(Escape("a\nb", Format::kMarkdown) == "a\\\\nb");  // renders as a\nb
  CHECK(Escape("&lt;", Format::kMarkdown) == "&amp;lt;");
}

TEST_CASE("CSV: one field, never a formula", "[escape]") {
  CHECK(Escape("a,b", Format::kCsv) == "\"a,b\"");
  CHECK(Escape("say \"x\"", Format::kCsv) == "\"say \"\"x\"\"\"");
  for (const char* formula : {"=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", " =1", "\uff1d1"}) {
    const std::string field = Escape(formula, Format::kCsv);
    CAPTURE(field);
    CHECK(field.substr(0, 2) == "\"'");
    CHECK(field.back() == '"');
  }
  CHECK(Escape("=HYPERLINK(\"http://x\";\"y\")", Format::kCsv) ==
        "\"'=HYPERLINK(\"\"http://x\"\";\"\"y\"\")\"");
  for (const char* number : {"-0.5", "-1", "1e-3", "-2.5E+10", "0"}) {
    CHECK(Escape(number, Format::kCsv) == number);
  }
  CHECK(Escape("-", Format::kCsv) == "\"'-\"");
  CHECK(Escape("-1.", Format::kCsv) == "\"'-1.\"");
}

TEST_CASE("LaTeX: no command survives", "[escape]") {
  CHECK(Escape("\\input{/etc/passwd}", Format::kLatex) ==
        "\\textbackslash{}input\\{/etc/passwd\\}");
  CHECK(Escape("50% & $x_1^2$ #3", Format::kLatex) ==
        "50\\% \\& \\$x\\_1\\textasciicircum{}2\\$ \\#3");
  CHECK(Escape("a~b|<c>", Format::kLatex) ==
        "a\\textasciitilde{}b\\textbar{}\\textless{}c\\textgreater{}");
  CHECK(Escape("[2cm]*", Format::kLatex) == "{[}2cm{]}{*}");
  CHECK(Escape("Pap\u00e1 No\u00ebl \u2013 \u20ac", Format::kLatex) ==
        "Pap\u00e1 No\u00ebl \u2013 \u20ac");
  CHECK(Escape("\u4e2d \U0001f429 \u0119", Format::kLatex) ==
        "\\textbackslash{}u4e2d \\textbackslash{}U0001f429 \\textbackslash{}u0119");
  CHECK(Escape("a--b ,, ''", Format::kLatex) == "a-{}-b ,{}, '{}'");
}

TEST_CASE("HTML: neither text nor attribute can be left", "[escape]") {
  CHECK(Escape("<script>alert('x')</script>", Format::kHtml) ==
        "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;");
  CHECK(Escape("\" onload=\"x & y", Format::kHtml) == "&quot; onload=&quot;x &amp; y");
}

TEST_CASE("of several lines only ours begin at the left edge", "[escape]") {
  const std::string text = "two differ:\n  a \x1b[2Jb\n  c\nverified: all is well\r\u202e";
  CHECK(EscapeLines(text, Layout::kMessage) ==
        "two differ:\n  a \\x1b[2Jb\n  c\\nverified: all is well\\r\\u202e");
  CHECK(EscapeLines("a\nb\n\n c\x9b\n", Layout::kReport) == "a\nb\n\n c\\x9b\n");
  CHECK(EscapeLines("a\n", Layout::kMessage) == "a\n");
  CHECK(EscapeLines("\n\n", Layout::kMessage) == "\\n\n");
  CHECK(EscapeLines("", Layout::kReport).empty());
  // What is safe already stays as it is.
  for (const Layout layout : {Layout::kMessage, Layout::kReport}) {
    const std::string once = EscapeLines(text, layout);
    CHECK(EscapeLines(once, layout) == once);
  }
}

TEST_CASE("what is long is shown by its beginning and its size", "[escape]") {
  CHECK(Shortened("poodle") == "poodle");
  CHECK(Shortened(std::string(200, 'a')) == std::string(200, 'a'));
  CHECK(Shortened(std::string(201, 'a')) == std::string(200, 'a') + "... (201 bytes)");
  // Characters are counted and kept whole.
  CHECK(Shortened("\u00e9\u00e9\u00e9", 3) == "\u00e9\u00e9\u00e9");
  CHECK(Shortened("\u00e9\u00e9\u00e9", 2) == "\u00e9\u00e9... (6 bytes)");
  CHECK(Shortened(std::string(100000, '\x80'), 2).size() < 40);
}

TEST_CASE("a formula is what a spreadsheet would run", "[escape]") {
  for (const char* formula : {"=1", "+a", "-a", "@a", " =1", "\t=1", "\r\n=1", "\uff1d1", "-"}) {
    CHECK(IsFormula(formula));
  }
  for (const char* text : {"", " ", "a=1", "-0.5", "1e-3", "'=1", "1+1"})
    CHECK_FALSE(IsFormula(text));
}

}  // namespace
}  // namespace excise
