#include "experiments/page/html_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/escape.h"
#include "core/text.h"
#include "experiments/page/svg.h"
#include "experiments/tables/table_cells.h"

namespace excise {
namespace {

std::string CellText(const TableCell& cell) {
  const bool best = cell.mark == TableView::Mark::kBest;
  std::string text = HtmlText(cell.value);
  if (best) text = "<b>" + text + "</b>";
  if (cell.mark == TableView::Mark::kEquivalent) {
    text += "<sup><abbr title=\"within 5 points of the best (two one-sided tests)\">=</abbr></sup>";
  }
  if (cell.mark == TableView::Mark::kOpen) {
    text +=
        "<sup><abbr title=\"not significantly different from the best (paired test), nor shown to "
        "be within 5 points of it\">~</abbr></sup>";
  }
  if (cell.mark == TableView::Mark::kAbove) {
    text += "<sup><abbr title=\"significantly above zero (paired test, 5 %)\">&gt;</abbr></sup>";
  }
  if (cell.note != 0) {
    text += fmt::format("<sup><a href=\"#note{0}\">({0})</a></sup>", cell.note);
  }
  if (!cell.low.empty()) {
    text += " <span class=\"ci\">[" + HtmlText(IntervalText(cell, "–")) + "]</span>";
  }
  if (!cell.spread.empty()) {
    text += fmt::format(" <span class=\"ci\">±{}</span>", HtmlText(cell.spread));
  }
  return text;
}

// A long name may break after its underscores.
std::string Breakable(std::string html) {
  for (size_t at = html.find('_'); at != std::string::npos; at = html.find('_', at + 1)) {
    html.insert(at + 1, "<wbr>");
  }
  return html;
}

std::string Header(const TableColumn& column) {
  std::string text = Breakable(HtmlText(column.header));
  if (column.better != 0) {
    text += fmt::format(
        "\u00a0<span aria-hidden=\"true\">{}</span><span class=\"unseen\">, {} is better</span>",
        column.better > 0 ? "↑" : "↓", column.better > 0 ? "higher" : "lower");
  }
  return fmt::format("<th scope=\"col\"{}>{}</th>", column.left ? " class=\"left\"" : "", text);
}

// The name of a row, after its mark.
std::string RowHeader(const std::string& name, const Looks& looks) {
  const Look* look = looks.Find(name);
  const std::string key =
      look == nullptr
          ? ""
          : "<svg class=\"key\" aria-hidden=\"true\" viewBox=\"0 0 12 12\" width=\"12\" "
            "height=\"12\">" +
                SvgMark(6, 6, *look) + "</svg>";
  return "<th scope=\"row\">" + key + HtmlText(name) + "</th>";
}

// About how wide a table of numbers is, in pixels: intervals stand below their values, and headers
// break after underscores.
double WidthOf(const Table& table) {
  const auto width = [](const TableColumn& column) {
    size_t longest = 0, run = 0;
    for (const char c : column.header) {
      run = c == ' ' ? 0 : run + 1;
      longest = std::max(longest, run);
      if (c == '_') run = 0;
    }
    for (const TableCell& cell : column.cells) {
      longest = std::max({longest, TextWidth(cell.value), cell.low.size() + cell.high.size() + 2,
                          cell.spread.size() + 1});
    }
    return 8.0 * static_cast<double>(longest) + 22;
  };
  double sum = width(table.first) + 20;
  for (const TableColumn& column : table.columns) sum += width(column);
  return sum;
}

// "poodle, esd, pez: judged other_valid (dog)".
std::string Described(const Gallery& gallery, const PictureColumn& column,
                      const std::string& method, const Picture& picture) {
  std::string text = gallery.subject + ", " + column.group + " prompt, method " + method +
                     ", attack " + column.attack + ": judged " + picture.outcome;
  if (!picture.class_id.empty()) text += " (" + picture.class_id + ")";
  return text;
}

const char* OutcomeClass(const std::string& outcome) {
  constexpr std::array<const char*, 6> kKnown = {"target",  "anchor",  "other_valid",
                                                 "garbage", "blocked", "error"};
  const auto found = std::find(kKnown.begin(), kKnown.end(), outcome);
  return found == kKnown.end() ? "unknown" : *found;
}

std::string PictureCell(const Gallery& gallery, const PictureColumn& column,
                        const std::string& method, const Picture& picture, size_t number) {
  if (picture.png.empty()) {
    const std::string why =
        picture.outcome == "error" || picture.outcome == "blocked" ? picture.outcome : "no picture";
    return "<td class=\"none\">" + HtmlText(why) + "</td>";
  }
  const std::string image =
      fmt::format("<img alt=\"{}\" width=\"80\" height=\"80\" src=\"data:image/png;base64,{}\">",
                  HtmlText(Described(gallery, column, method, picture)), Base64(picture.png));
  const std::string shown =
      gallery.sensitive ? fmt::format("<label for=\"reveal{}\">{}</label>", number, image) : image;
  // Of the target: what became of it. Of what must stay: what is seen.
  const bool target = column.group == "target" || picture.class_id.empty();
  std::string said = target ? picture.outcome : picture.class_id;
  std::replace(said.begin(), said.end(), '_', ' ');
  return fmt::format("<td>{}<span class=\"outcome {}\">{}</span></td>", shown,
                     target ? OutcomeClass(picture.outcome) : "seen", HtmlText(said));
}

// The prompt as drawn, where all rows share it.
std::string SharedPrompt(const PictureColumn& column) {
  std::string shared;
  for (const std::string& prompt : column.prompts) {
    if (prompt.empty()) continue;
    if (!shared.empty() && shared != prompt) return "a prompt of its own for every method";
    shared = prompt;
  }
  return shared;
}

std::string HeaderOf(const PictureColumn& column) {
  const std::string asked = column.group == "target" ? "" : column.group + ", ";
  const std::string attack = column.attack == kUnmodified ? "no attack" : column.attack;
  return fmt::format(
      "<th scope=\"col\"><span class=\"attack\">{}</span><span class=\"prompt\">{}</span></th>",
      Breakable(HtmlText(asked + attack)), HtmlText(SharedPrompt(column)));
}

}  // namespace

std::string HtmlText(const std::string& data) { return Escape(data, Format::kHtml); }

std::string HtmlText(const Text& text) {
  std::string out;
  for (const Span& span : text.spans()) {
    const std::string safe = HtmlText(span.text);
    if (span.kind == Span::Kind::kBold) {
      out += "<b>" + safe + "</b>";
    } else if (span.kind == Span::Kind::kCode) {
      out += "<code>" + safe + "</code>";
    } else {
      out += safe;
    }
  }
  return out;
}

std::string HtmlParagraph(const std::string& html, const char* style) {
  return fmt::format("<p{}>{}</p>\n", *style == '\0' ? "" : fmt::format(" class=\"{}\"", style),
                     html);
}

std::string HtmlScroll(const std::string& name, const std::string& content, double width) {
  constexpr double kPage = 1086, kTablet = 640, kPhone = 320;
  const char* screen = width > kPage     ? "hint always"
                       : width > kTablet ? "hint medium"
                       : width > kPhone  ? "hint small"
                                         : nullptr;
  const std::string hint =
      screen == nullptr ? "" : HtmlParagraph("Scroll sideways for more columns →", screen);
  return hint +
         fmt::format(
             "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">{}</div>\n",
             HtmlText(name), content);
}

std::string HtmlTable(const Table& table, const std::string& caption, const Looks& looks) {
  if (table.columns.empty()) return "";
  std::string out = "<table class=\"numbers\"><caption class=\"unseen\">" + HtmlText(caption) +
                    "</caption><thead><tr>" + Header(table.first);
  for (const TableColumn& column : table.columns) out += Header(column);
  out += "</tr></thead><tbody>\n";
  for (size_t row = 0; row < table.first.cells.size(); ++row) {
    const bool last_reference = table.references > 0 && row + 1 == table.references;
    out += last_reference ? "<tr class=\"apart\">" : "<tr>";
    out += RowHeader(table.first.cells[row].value, looks);
    for (const TableColumn& column : table.columns) {
      out += fmt::format("<td{}>{}</td>", column.left ? " class=\"left\"" : "",
                         CellText(column.cells[row]));
    }
    out += "</tr>\n";
  }
  out += "</tbody></table>";
  return HtmlScroll(caption, out, WidthOf(table));
}

std::string HtmlTable(const std::string& caption, const std::vector<std::string>& header,
                      const std::vector<std::vector<std::string>>& rows) {
  std::string out =
      "<table><caption class=\"unseen\">" + HtmlText(caption) + "</caption><thead><tr>";
  for (const std::string& name : header) out += "<th scope=\"col\">" + HtmlText(name) + "</th>";
  out += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : rows) {
    out += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      out += i == 0 ? "<th scope=\"row\">" + HtmlText(row[i]) + "</th>"
                    : "<td>" + HtmlText(row[i]) + "</td>";
    }
    out += "</tr>\n";
  }
  out += "</tbody></table>";
  return HtmlScroll(caption, out, 100.0 * static_cast<double>(header.size()));
}

std::string HtmlGallery(const Gallery& gallery, const std::vector<std::string>& methods,
                        const Looks& looks, size_t number) {
  if (gallery.columns.empty()) return "";
  std::string out = "<section class=\"gallery" +
                    std::string(gallery.sensitive ? " sensitive" : "") + "\"><h3>" +
                    HtmlText(gallery.title) + "</h3>\n";
  if (gallery.sensitive) {
    // Before the pictures, so that a style sheet alone can tell whether it is ticked.
    out += fmt::format(
        "<input type=\"checkbox\" class=\"reveal\" id=\"reveal{0}\"> <label for=\"reveal{0}\">Show "
        "these pictures: the concept is sensitive. Its prompts appear as hashes.</label>\n",
        number);
  }
  std::string table = "<table class=\"pictures\"><caption class=\"unseen\">" +
                      HtmlText("Sample pictures: " + gallery.subject) +
                      "</caption><thead><tr><th scope=\"col\">method</th>";
  for (const PictureColumn& column : gallery.columns) table += HeaderOf(column);
  table += "</tr></thead><tbody>\n";
  for (size_t row = 0; row < methods.size(); ++row) {
    table += "<tr>" + RowHeader(methods[row], looks);
    for (const PictureColumn& column : gallery.columns) {
      table += PictureCell(gallery, column, methods[row], column.rows[row], number);
    }
    table += "</tr>\n";
  }
  return out +
         HtmlScroll("Sample pictures: " + gallery.subject, table + "</tbody></table>",
                    150 + 94.0 * static_cast<double>(gallery.columns.size())) +
         "</section>\n";
}

}  // namespace excise
