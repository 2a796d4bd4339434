#include <fmt/format.h>

#include "core/escape.h"
#include "experiments/tables/render.h"

namespace excise {
namespace {

// More columns are unreadable on a page; the rest goes on in a further tabular.
constexpr size_t kColumns = 9;

std::string Safe(const std::string& data) { return Escape(data, Format::kLatex); }

std::string Plain(const Text& text) {
  std::string out;
  for (const Span& span : text.spans()) {
    const std::string safe = Safe(span.text);
    if (span.kind == Span::Kind::kBold) {
      out += "\\textbf{" + safe + "}";
    } else if (span.kind == Span::Kind::kCode) {
      out += "\\texttt{" + safe + "}";
    } else {
      out += safe;
    }
  }
  return out;
}

std::string CellText(const TableCell& cell) {
  std::string text = Safe(cell.value);
  if (cell.mark == TableView::Mark::kBest) text = "\\textbf{" + text + "}";
  if (cell.mark == TableView::Mark::kEquivalent) text += "\\textsuperscript{=}";
  if (cell.mark == TableView::Mark::kOpen) text += "\\textsuperscript{$\\sim$}";
  if (cell.mark == TableView::Mark::kAbove) text += "\\textsuperscript{$>$}";
  if (cell.note != 0) text += fmt::format("\\textsuperscript{{{}}}", cell.note);
  if (!cell.low.empty()) {
    text += fmt::format(" {{\\scriptsize {{[}}{}, {}{{]}}}}", Safe(cell.low), Safe(cell.high));
  }
  if (!cell.spread.empty()) text += fmt::format(" {{\\scriptsize $\\pm$ {}}}", Safe(cell.spread));
  return text;
}

std::string Header(const TableColumn& column) {
  std::string text = Safe(column.header);
  if (column.better != 0) text += column.better > 0 ? " $\\uparrow$" : " $\\downarrow$";
  return text;
}

// Columns [start, end) beside the first one, no wider than the page.
std::string Tabular(const Table& table, size_t start, size_t end) {
  std::string format = "l", header = Header(table.first), body;
  for (size_t i = start; i < end; ++i) {
    format += table.columns[i].left ? "l" : "r";
    header += " & " + Header(table.columns[i]);
  }
  for (size_t row = 0; row < table.first.cells.size(); ++row) {
    if (row == table.references && row > 0) body += "\\midrule\n";
    body += CellText(table.first.cells[row]);
    for (size_t i = start; i < end; ++i) body += " & " + CellText(table.columns[i].cells[row]);
    body += " \\\\\n";
  }
  return "\\fitted{\\begin{tabular}{" + format + "}\n\\toprule\n" + header + " \\\\\n\\midrule\n" +
         body + "\\bottomrule\n\\end{tabular}}\n";
}

std::string Environment(const Document& document, const Table& table) {
  std::string out = "%<*" + table.name + ">\n\\begin{table}[p]\n\\centering\n\\caption{";
  out += Safe(document.title) + ". " + Safe(table.title) +
         (table.title.back() == '?' ? " " : ": ") + Plain(table.intro);
  if (!table.constants.empty()) out += " " + Plain(table.constants);
  out += "}\n\\label{tab:" + table.name + "}\n";
  for (size_t start = 0; start < table.columns.size(); start += kColumns) {
    if (start > 0) out += "\n\\medskip\n";
    out += Tabular(table, start, std::min(start + kColumns, table.columns.size()));
  }
  return out + "\\end{table}\n%</" + table.name + ">\n\n";
}

// \fitted{...} is shrunk to the text's width if it is wider. T1 has the accented letters.
constexpr const char* kPreamble =
    "\\documentclass[10pt]{article}\n"
    "\\usepackage[utf8]{inputenc}\n"
    "\\usepackage[T1]{fontenc}\n"
    "\\usepackage{textcomp}\n"
    "\\usepackage[a4paper,landscape,margin=18mm]{geometry}\n"
    "\\usepackage{booktabs}\n"
    "\\usepackage{graphicx}\n"
    "\\newsavebox{\\fittedbox}\n"
    "\\newcommand{\\fitted}[1]{\\sbox{\\fittedbox}{#1}%\n"
    "  \\ifdim\\wd\\fittedbox>\\textwidth\\resizebox{\\textwidth}{!}{\\usebox{\\fittedbox}}%\n"
    "  \\else\\usebox{\\fittedbox}\\fi}\n"
    "\\begin{document}\n";

}  // namespace

std::string RenderLatex(const Document& document) {
  std::string out =
      "% " + Safe(document.title) + ", profile " + Safe(document.profile) +
      "\n% A table needs booktabs, graphicx, textcomp and \\fitted of this preamble.\n";
  out += kPreamble;
  out += "\\noindent " + Plain(document.caption) + "\n\n";
  for (const Table& table : document.tables) out += Environment(document, table);
  out += "%<*remarks>\n";
  for (const Text& remark : document.remarks) out += "\\noindent " + Plain(remark) + "\n\n";
  for (size_t i = 0; i < document.notes.size(); ++i) {
    out += fmt::format("\\noindent\\textsuperscript{{{}}} {}\n\n", i + 1, Safe(document.notes[i]));
  }
  return out + "%</remarks>\n\\end{document}\n";
}

}  // namespace excise
