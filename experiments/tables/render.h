// The formats that a table is written in. Everything that comes from files or prompts is escaped.
#pragma once

#include <string>

#include "experiments/tables/table.h"

namespace excise {

inline constexpr size_t kTableWidth = 140;

// For GitHub: at most kTableWidth columns wide where cells allow. Columns that do not fit go on in
// a further table that repeats the first one.
std::string RenderMarkdown(const Document& document);

// The same for a terminal of `width` columns, without markup: "*" marks the best.
std::string RenderText(const Document& document, size_t width);

// A document for plain pdflatex (booktabs): best in bold, marks as superscripts. Each table
// stands between %<*name> and %</name>, to be copied or taken with the package
// catchfilebetweentags.
std::string RenderLatex(const Document& document);

// Tidy, for pandas, R and spreadsheets: a header, then one number a line. A record's own value
// stands under its metric's name, its parts under "<metric>_parts" and the column `part`, so that
// nothing has to be told apart before it is plotted. Numbers are plain decimals of full precision,
// what is missing is empty, every field is quoted where it needs to be, and no cell is a formula.
std::string RenderCsv(const Results& results);

}  // namespace excise
