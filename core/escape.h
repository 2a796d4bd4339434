// Prompts and file names are hostile input to every place where they are shown. One function makes
// them safe; what it hides it shows as a visible escape ("\x1b", "\u202e", "\n").
#pragma once

#include <string>
#include <string_view>

namespace excise {

enum class Format { kTerminal, kMarkdown, kCsv, kLatex, kHtml };

// `text` made safe for one place of a document:
//   kTerminal  a line on a terminal or in a log
//   kMarkdown  a cell of a GitHub table, or running text
//   kCsv       one whole field (RFC 4180, quoted where needed); text that a spreadsheet would run
//              as a formula gets a leading apostrophe, plain decimal numbers do not
//   kLatex     running text or a tabular cell for pdflatex with the package textcomp; characters
//              that its default fonts lack become visible escapes
//   kHtml      text or a quoted attribute value
// In every format control characters, bidirectional overrides, invisible characters, line and
// paragraph separators and bytes that are not UTF-8 become visible escapes, so the result is one
// line of valid UTF-8.
std::string Escape(std::string_view text, Format format);

// Several lines for a terminal. Line ends stay in a report, which is ours line by line; in a
// message only those before an indented line do, as we write them: a line that a name from a file
// opens at the left edge would pass for one of ours.
enum class Layout { kReport, kMessage };
std::string EscapeLines(std::string_view text, Layout layout);

// The first `most` characters, and how many there were: what people need to know an argument by.
std::string Shortened(std::string_view text, size_t most = 200);

// Whether a spreadsheet would run the text of a cell as a formula: it begins with = + - or @ and is
// no plain decimal number.
bool IsFormula(std::string_view text);

}  // namespace excise
