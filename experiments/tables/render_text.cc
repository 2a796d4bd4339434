#include <fmt/format.h>

#include <algorithm>

#include "core/escape.h"
#include "core/text.h"
#include "experiments/tables/render.h"
#include "experiments/tables/table_cells.h"
#include "experiments/tables/text_layout.h"

namespace excise {
namespace {

constexpr size_t kGap = 2;  // spaces between columns

std::string Safe(const std::string& data) { return Escape(data, Format::kTerminal); }

std::string Plain(const Text& text) {
  std::string out;
  for (const Span& span : text.spans()) {
    out += span.kind == Span::Kind::kBest ? "*" : Safe(span.text);
  }
  return out;
}

// Its mark stands last and has its place in every cell of such a column, so that values align.
std::string CellText(const TableCell& cell, bool marked) {
  std::string text = Safe(cell.value);
  if (!cell.low.empty()) text += " [" + IntervalText(cell) + "]";
  if (!cell.spread.empty()) text += " ±" + cell.spread;
  if (cell.note != 0) text += fmt::format(" ({})", cell.note);
  if (cell.mark == TableView::Mark::kBest) return text + " *";
  if (cell.mark == TableView::Mark::kEquivalent) return text + " =";
  if (cell.mark == TableView::Mark::kOpen) return text + " ~";
  if (cell.mark == TableView::Mark::kAbove) return text + " >";
  return marked ? text + "  " : text;
}

// A header that is wider than its cells is broken behind spaces and underscores.
std::vector<std::string> HeaderLines(const std::string& header, const char* arrow, size_t width) {
  std::vector<std::string> parts;
  for (size_t start = 0; start < header.size();) {
    const size_t end = std::min(header.find_first_of(" _", start), header.size() - 1) + 1;
    parts.push_back(header.substr(start, end - start) + (end == header.size() ? arrow : ""));
    width = std::max(width, TextWidth(parts.back()));
    start = end;
  }
  std::vector<std::string> lines = {""};
  for (const std::string& part : parts) {
    const bool fits = TextWidth(lines.back()) + TextWidth(part) <= width;
    if (!fits && !lines.back().empty()) lines.emplace_back();
    lines.back() += part;
  }
  return lines;
}

TextColumn ToText(const TableColumn& column, size_t references) {
  const bool marked =
      std::any_of(column.cells.begin(), column.cells.end(),
                  [](const TableCell& cell) { return cell.mark != TableView::Mark::kNone; });
  TextColumn text{{}, column.left, {}, 3};
  for (const TableCell& cell : column.cells) text.cells.push_back(CellText(cell, marked));
  // An empty row sets the reference rows apart.
  if (references > 0) {
    text.cells.insert(text.cells.begin() + static_cast<std::ptrdiff_t>(references), "");
  }
  for (const std::string& cell : text.cells) text.width = std::max(text.width, TextWidth(cell));
  const char* arrow = column.better == 0 ? "" : column.better > 0 ? " ↑" : " ↓";
  text.header = HeaderLines(Safe(column.header), arrow, text.width);
  for (const std::string& line : text.header) text.width = std::max(text.width, TextWidth(line));
  return text;
}

// One line of a table: `cell(column)` of each.
template <class Cell>
std::string Line(const std::vector<const TextColumn*>& shown, const Cell& cell) {
  std::string line;
  for (const TextColumn* column : shown) {
    line += (line.empty() ? "" : std::string(kGap, ' ')) +
            Padded(cell(*column), column->width, column->left);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string Columns(const std::vector<const TextColumn*>& shown) {
  size_t lines = 1;
  for (const TextColumn* column : shown) lines = std::max(lines, column->header.size());
  std::string out;
  for (size_t i = 0; i < lines; ++i) {
    out += Line(shown, [&](const TextColumn& column) {  // the last lines stand on one line
      const size_t skipped = lines - column.header.size();
      return i < skipped ? std::string() : column.header[i - skipped];
    });
  }
  out += Line(shown, [](const TextColumn& column) { return std::string(column.width, '-'); });
  for (size_t row = 0; row < shown.front()->cells.size(); ++row) {
    out += Line(shown, [&](const TextColumn& column) { return column.cells[row]; });
  }
  return out;
}

std::string TableText(const Table& table, size_t width) {
  const TextColumn first = ToText(table.first, table.references);
  std::vector<TextColumn> columns;
  for (const TableColumn& column : table.columns) {
    columns.push_back(ToText(column, table.references));
  }
  std::string out;
  for (const auto& shown : FittingTables(first, columns, width, /*edges=*/0, kGap)) {
    out += (out.empty() ? "" : "\n") + Columns(shown);
  }
  return out;
}

}  // namespace

std::string RenderText(const Document& document, size_t width) {
  std::string out = Wrapped(Plain(document.caption), width);
  for (const Table& table : document.tables) {
    const std::string joint = table.title.back() == '?' ? " " : ": ";
    out += "\n" + Wrapped(table.title + joint + Plain(table.intro), width);
    if (!table.columns.empty()) out += "\n" + TableText(table, width);
    if (!table.constants.empty()) out += "\n" + Wrapped(Plain(table.constants), width);
  }
  out += "\n";
  for (const Text& remark : document.remarks) out += Wrapped(Plain(remark), width);
  for (size_t i = 0; i < document.notes.size(); ++i) {
    out += Wrapped(fmt::format("({}) {}", i + 1, Safe(document.notes[i])), width);
  }
  return out;
}

}  // namespace excise
