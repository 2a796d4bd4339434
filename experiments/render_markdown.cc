#include <fmt/format.h>

#include <algorithm>

#include "core/escape.h"
#include "experiments/render.h"

namespace excise {
namespace {

std::string Safe(const std::string& data) { return Escape(data, Format::kMarkdown); }

// Characters, not bytes: headers hold arrows.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string Padded(const std::string& text, size_t width, bool left) {
  const std::string space(width - std::min(width, Width(text)), ' ');
  return left ? text + space : space + text;
}

// Whether a line that starts with the word would open a list or underline a heading.
bool OpensBlock(const std::string& word) {
  if (word.find_first_of("-+=") == 0) return true;
  const size_t digits = word.find_first_not_of("0123456789");
  return digits != 0 && digits != std::string::npos && (word[digits] == '.' || word[digits] == ')');
}

// Breaks running text between words.
std::string Wrapped(const std::string& text) {
  std::string out, line;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find(' ', start), text.size());
    const std::string word = text.substr(start, end - start);
    if (!line.empty() && !OpensBlock(word) && Width(line) + 1 + Width(word) > kTableWidth) {
      out += line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    start = end + 1;
  }
  return out + line + "\n";
}

std::string Plain(const Text& text) {
  std::string out;
  for (const Span& span : text.spans()) {
    switch (span.kind) {
      case Span::Kind::kWords:
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
  std::string text = cell.value == "-" ? "-" : Safe(cell.value);  // no list can open in a cell
  if (cell.mark == TableView::Mark::kBest) text = "**" + text + "**";
  if (!cell.low.empty()) text += " [" + cell.low + "-" + cell.high + "]";
  if (!cell.spread.empty()) text += " ±" + cell.spread;
  if (cell.mark == TableView::Mark::kTie) text += " =";
  if (cell.note != 0) text += fmt::format(" ({})", cell.note);
  return text;
}

struct TextColumn {
  std::string header;
  bool left = false;
  std::vector<std::string> cells;
  size_t width = 3;
};

TextColumn ToText(const TableColumn& column, size_t references) {
  TextColumn text{Safe(column.header), column.left, {}, 3};
  if (column.better != 0) text.header += column.better > 0 ? " ↑" : " ↓";
  for (const TableCell& cell : column.cells) text.cells.push_back(CellText(cell));
  // An empty row sets the reference rows apart.
  if (references > 0) {
    text.cells.insert(text.cells.begin() + static_cast<std::ptrdiff_t>(references), "");
  }
  text.width = std::max(text.width, Width(text.header));
  for (const std::string& cell : text.cells) text.width = std::max(text.width, Width(cell));
  return text;
}

std::string Columns(const std::vector<const TextColumn*>& shown) {
  std::string header = "|", rule = "|";
  for (const TextColumn* column : shown) {
    header += " " + Padded(column->header, column->width, column->left) + " |";
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
  for (size_t start = 0; start < columns.size();) {
    std::vector<const TextColumn*> shown = {&first};
    size_t total = 2 + first.width + 2;
    while (start < columns.size() &&
           (shown.size() == 1 || total + columns[start].width + 3 <= kTableWidth)) {
      total += columns[start].width + 3;
      shown.push_back(&columns[start++]);
    }
    out += (out.empty() ? "" : "\n") + Columns(shown);
  }
  return out;
}

}  // namespace

std::string RenderMarkdown(const Document& document) {
  std::string out = Wrapped(Plain(document.caption));
  for (const Table& table : document.tables) {
    const std::string joint = table.title.back() == '?' ? " " : ": ";
    out += "\n" + Wrapped(table.title + joint + Plain(table.intro));
    if (!table.columns.empty()) out += "\n" + TableText(table);
    if (!table.constants.empty()) out += "\n" + Wrapped(Plain(table.constants));
  }
  out += "\n";
  for (const Text& remark : document.remarks) out += Wrapped(Plain(remark));
  for (size_t i = 0; i < document.notes.size(); ++i) {
    out += Wrapped(fmt::format("({}) {}", i + 1, Safe(document.notes[i])));
  }
  return out;
}

}  // namespace excise
