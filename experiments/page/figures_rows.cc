// Figures that have a row for every method: intervals, heat maps, stacks.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/escape.h"
#include "core/text.h"
#include "experiments/page/figures.h"

namespace excise {
namespace {

constexpr double kRow = 22;    // the height of one
constexpr double kRight = 10;  // what stays free at the right edge
constexpr double kHot = 0.7;   // from here on the ground of a heat map asks for the other ink

template <typename AnyRow>
RowNames NamesOf(const std::vector<AnyRow>& rows) {
  std::vector<std::string> names;
  for (const AnyRow& row : rows) names.push_back(row.label);
  return RowNames(names);
}

// The names of columns lean to the left, above their columns' middles.
std::string LeaningWords(double x, double y, const std::string& text) {
  return fmt::format(
      "<text transform=\"translate({:.1f} {:.1f}) rotate(40)\" text-anchor=\"end\" "
      "class=\"tick\">{}</text>",
      x, y, Escape(text, Format::kHtml));
}

std::string HeatRectangle(const Box& box, double rate) {
  return fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"cell\"/><rect "
      "x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"heat\" "
      "fill-opacity=\"{:.3f}\"/>",
      box.left, box.top, box.right - box.left, box.bottom - box.top, box.left, box.top,
      box.right - box.left, box.bottom - box.top, std::min(1.0, std::max(0.0, rate)));
}

}  // namespace

Drawing IntervalFigure(const std::string& title, const Axis& axis,
                       const std::vector<IntervalRow>& rows) {
  const RowNames names = NamesOf(rows);
  const double left = names.width(), top = 4,
               bottom = top + kRow * static_cast<double>(rows.size());
  const Scale x(axis, left, kFigureWidth - 22);
  Drawing drawing{title, title, kFigureWidth, bottom + (axis.label.empty() ? 20 : 36),
                  HorizontalAxis(axis, x, top, bottom)};
  if (axis.low < 0 && axis.high > 0) drawing.body += SvgLine(x(0), top, x(0), bottom, "zero");
  if (!axis.label.empty()) {
    drawing.body +=
        SvgWords((left + kFigureWidth - 22) / 2, bottom + 30, "middle", axis.label, "axis");
  }
  double y = top + kRow / 2;
  for (const IntervalRow& row : rows) {
    std::string mark, said = row.label + ": no value";
    if (row.estimate) {
      const Estimate& e = *row.estimate;
      said = row.label + ": " + Said(e, axis.unit);
      if (!row.significant) said += ", not significant";
      const std::string style = row.significant ? "bar " : "bar dashed ";
      if (e.has_interval) mark += SvgLine(x(e.low), y, x(e.high), y, style + ClassesOf(row.look));
      mark += SvgMark(x(e.value), y, row.look);
    } else {
      mark = SvgWords(left + 4, y + 4, "start", "no value", "dim");
    }
    drawing.body += SvgNamed(names.At(y, row.label, row.look) + mark, said);
    drawing.described += "; " + said;
    y += kRow;
  }
  return drawing;
}

Drawing HeatMap(const std::string& title, const std::vector<std::string>& columns,
                const std::vector<HeatRow>& rows) {
  constexpr double kLeast = 29;  // the least width of a column
  constexpr size_t kMostOfHeader = 18;
  const RowNames names = NamesOf(rows);
  const auto count = static_cast<double>(std::max<size_t>(columns.size(), 1));
  const double left = names.width();
  const double cell = std::max(kLeast, std::min(64.0, (kFigureWidth - left - kRight) / count));
  size_t longest = 0;
  for (const std::string& column : columns) {
    longest = std::max(longest, std::min(TextWidth(column), kMostOfHeader));
  }
  const double top = 16 + 4.0 * static_cast<double>(longest);
  Drawing drawing{title, title, std::max(kFigureWidth, left + count * cell + kRight),
                  top + kRow * static_cast<double>(rows.size()) + 8, ""};
  for (size_t i = 0; i < columns.size(); ++i) {
    drawing.body += LeaningWords(left + (static_cast<double>(i) + 0.5) * cell + 3, top - 5,
                                 Cut(columns[i], kMostOfHeader));
  }
  for (size_t row = 0; row < rows.size(); ++row) {
    const double y = top + static_cast<double>(row) * kRow;
    drawing.body += names.At(y + kRow / 2, rows[row].label, rows[row].look);
    for (size_t i = 0; i < columns.size(); ++i) {
      const double x = left + static_cast<double>(i) * cell;
      const HeatCell& at = rows[row].cells[i];
      std::string shown, value = at.word;
      if (at.rate) {
        value = Said(*at.rate, AxisUnit::kPercent);
        const char* ink = at.rate->value >= kHot ? "hot" : "cold";
        shown = HeatRectangle({x + 0.5, y + 0.5, x + cell - 0.5, y + kRow - 0.5}, at.rate->value) +
                SvgWords(x + cell / 2, y + kRow / 2 + 4, "middle",
                         fmt::format("{:.0f}", 100 * at.rate->value), ink);
      } else {
        shown = SvgWords(x + cell / 2, y + kRow / 2 + 4, "middle", Cut(at.word, 5), "dim");
      }
      const std::string said = rows[row].label + ", " + columns[i] + ": " + value;
      drawing.body += SvgNamed(shown, said);
      drawing.described += "; " + said;
    }
  }
  return drawing;
}

Drawing StackFigure(const std::string& title, const std::vector<StackPart>& parts,
                    const std::vector<StackRow>& rows) {
  const RowNames names = NamesOf(rows);
  const double left = names.width(), top = 4,
               bottom = top + kRow * static_cast<double>(rows.size());
  const Axis axis{0, 1, AxisUnit::kPercent, ""};
  const Scale x(axis, left, kFigureWidth - 22);
  Drawing drawing{title, title, kFigureWidth, 0, HorizontalAxis(axis, x, top, bottom)};
  for (size_t i = 0; i < rows.size(); ++i) {
    const StackRow& row = rows[i];
    const double y = top + static_cast<double>(i) * kRow;
    drawing.body += names.At(y + kRow / 2, row.label, row.look);
    if (row.shares.empty()) {
      drawing.body += SvgWords(left + 4, y + kRow / 2 + 4, "start", "no value", "dim");
      drawing.described += "; " + row.label + ": no value";
    }
    double from = 0;
    for (size_t part = 0; part < row.shares.size(); ++part) {
      const double share = row.shares[part];
      if (share <= 0) continue;
      const double start = x(from), end = x(from + share);
      from += share;
      std::string shown = fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:g}\" class=\"out {}\"/>",
          start, y + 2, std::max(0.6, end - start - 0.8), kRow - 4, parts[part].outcome);
      if (end - start >= 20) {
        const std::string ink = "ink " + parts[part].outcome;
        shown += SvgWords((start + end) / 2, y + kRow / 2 + 4, "middle",
                          fmt::format("{:.0f}", 100 * share), ink.c_str());
      }
      const std::string said =
          fmt::format("{}: {} {}", row.label, parts[part].label, Number(share, AxisUnit::kPercent));
      drawing.body += SvgNamed(shown, said);
      drawing.described += "; " + said;
    }
  }
  double y = bottom + 32;
  for (size_t part = 0; part < parts.size(); ++part) {
    const double column = 12 + 110 * static_cast<double>(part % 3);
    drawing.body +=
        fmt::format("<rect x=\"{:g}\" y=\"{:g}\" width=\"12\" height=\"12\" class=\"out {}\"/>",
                    column, y - 10, parts[part].outcome);
    drawing.body += SvgWords(column + 18, y, "start", parts[part].label);
    if (part % 3 == 2 && part + 1 < parts.size()) y += 20;
  }
  drawing.height = y + 10;
  return drawing;
}

}  // namespace excise
