#include <fmt/format.h>

#include <algorithm>

#include "core/escape.h"
#include "core/text.h"
#include "experiments/tables/render.h"
#include "experiments/tables/table_cells.h"
#include "experiments/tables/text_layout.h"

namespace excise {
namespace {

std::string Safe(const std::string& data) { return Escape(data, Format::kMarkdown); }

// Whether a line that starts with the word would open a list or underline a heading.
bool OpensBlock(const std::string& word) {
  if (word.find_first_of("-+=") == 0) return true;
  const size_t digits = word.find_first_not_of("0123456789");
  return digits != 0 && digits != std::string::npos && (word[digits] == '.' || word[digits] == ')');
}

std::string Paragraph(const std::string& text) { return Wrapped(text, kTableWidth, OpensBlock); }

std::string Plain(const Text& text) {
  std::string out;
  for (const Span& span : text.spans()) {
    switch (span.kind) {
      case Span::Kind::kWords:
      case Span::Kind::kBest:
        out += span.text;
        break;
      case Span::Kind::kData:
        out += Safe(span.text);
        break;
      case Span::Kind::kBold:
        out += "**" + Safe(span.text) + "**";
        break;
      case Span::Kind::kCode:
        out += "`" + span.text + "`";
        break;
    }
  }
  return out;
}

std::string CellText(const TableCell& cell) {
  // No list can open in a cell, so a number keeps its sign as it is.
  const bool sign = cell.value.find_first_of("+-") == 0;
  const bool bare = sign && cell.value.find_first_not_of(".0123456789", 1) == std::string::npos;
  std::string text = bare ? cell.value : Safe(cell.value);
  if (cell.mark == TableView::Mark::kBest) text = "**" + text + "**";
  if (!cell.low.empty()) text += " [" + IntervalText(cell) + "]";
  if (!cell.spread.empty()) text += " ±" + cell.spread;
  if (cell.mark == TableView::Mark::kEquivalent) text += " =";
  if (cell.mark == TableView::Mark::kOpen) text += " ~";
  if (cell.mark == TableView::Mark::kAbove) text += " >";
  if (cell.note != 0) text += fmt::format(" ({})", cell.note);
  return text;
}

TextColumn ToText(const TableColumn& column, size_t references) {
  std::string header = Safe(column.header);
  if (column.better != 0) header += column.better > 0 ? " ↑" : " ↓";
  TextColumn text{{header}, column.left, {}, 3};
  for (const TableCell& cell : column.cells) text.cells.push_back(CellText(cell));
  // An empty row sets the reference rows apart.
  if (references > 0) {
    text.cells.insert(text.cells.begin() + static_cast<std::ptrdiff_t>(references), "");
  }
  text.width = std::max(text.width, TextWidth(header));
  for (const std::string& cell : text.cells) text.width = std::max(text.width, TextWidth(cell));
  return text;
}

std::string Columns(const std::vector<const TextColumn*>& shown) {
  std::string header = "|", rule = "|";
  for (const TextColumn* column : shown) {
    header += " " + Padded(column->header.front(), column->width, column->left) + " |";
    rule +=
        (column->left ? ":" : "-") + std::string(column->width, '-') + (column->left ? "-|" : ":|");
  }
  std::string out = header + "\n" + rule + "\n";
  for (size_t row = 0; row < shown.front()->cells.size(); ++row) {
    out += "|";
    for (const TextColumn* column : shown) {
      out += " " + Padded(column->cells[row], column->width, column->left) + " |";
    }
    out += "\n";
  }
  return out;
}

std::string TableText(const Table& table) {
  const TextColumn first = ToText(table.first, table.references);
  std::vector<TextColumn> columns;
  for (const TableColumn& column : table.columns) {
    columns.push_back(ToText(column, table.references));
  }
  std::string out;
  for (const auto& shown : FittingTables(first, columns, kTableWidth, /*edges=*/4, /*gap=*/3)) {
    out += (out.empty() ? "" : "\n") + Columns(shown);
  }
  return out;
}

}  // namespace

std::string RenderMarkdown(const Document& document) {
  std::string out = Paragraph(Plain(document.caption));
  for (const Table& table : document.tables) {
    const std::string joint = table.title.back() == '?' ? " " : ": ";
    out += "\n" + Paragraph(table.title + joint + Plain(table.intro));
    if (!table.columns.empty()) out += "\n" + TableText(table);
    if (!table.constants.empty()) out += "\n" + Paragraph(Plain(table.constants));
  }
  out += "\n";
  for (const Text& remark : document.remarks) out += Paragraph(Plain(remark));
  for (size_t i = 0; i < document.notes.size(); ++i) {
    out += Paragraph(fmt::format("({}) {}", i + 1, Safe(document.notes[i])));
  }
  return out;
}

}  // namespace excise
