// What figures are drawn with: axes, words, marks and a frame, as SVG text. Colours come from the
// style sheet by class; words are data and escaped here.
#pragma once

#include <string>
#include <vector>

#include "experiments/page/looks.h"
#include "experiments/tables/table.h"

namespace excise {

// The width of a figure that fits a phone, in pixels.
inline constexpr double kFigureWidth = 340;

// A figure, apart from the document that it stands in.
struct Drawing {
  std::string title;
  std::string described;                    // for who does not see it: the title and every value
  double width = kFigureWidth, height = 0;  // pixels
  std::string body;                         // SVG elements
};
// For a page. A drawing that is wider than a phone scrolls in a box of its own.
std::string FigureHtml(const Drawing& drawing);
// A file of its own, on white, with its style inside.
std::string SvgFile(const Drawing& drawing);

// Several drawings as one, from left to right, each below its own title.
Drawing SideBySide(const std::string& title, const std::vector<Drawing>& drawings);

// How values are written: as they are; times 100 with "%"; times 100 with their sign, for
// differences of rates.
enum class AxisUnit { kPlain, kPercent, kPoints };

struct Axis {
  double low = 0, high = 1;
  AxisUnit unit = AxisUnit::kPercent;
  std::string label;
  bool logarithmic = false;  // low > 0
};
// An axis from a little below the smallest value to a little above the largest one.
Axis AxisAround(const std::vector<Estimate>& estimates, AxisUnit unit, const std::string& label);

// Round numbers inside the axis, three to six of them; on a logarithmic one 1, 2 and 5 times powers
// of ten, or powers of ten alone where these are many.
std::vector<double> Ticks(const Axis& axis);

std::string Number(double value, AxisUnit unit);
// "5 % [2 %, 10 %]"
std::string Said(const Estimate& estimate, AxisUnit unit);

// The first `most` characters of text; an ellipsis says that more follow.
std::string Cut(const std::string& text, size_t most);

// Where a value stands between two places of the drawing; what lies outside stands at the edge.
class Scale {
 public:
  Scale(const Axis& axis, double from, double to) : axis_(axis), from_(from), to_(to) {}
  double operator()(double value) const;

 private:
  Axis axis_;
  double from_, to_;
};

// A rectangle between edges.
struct Box {
  double left, top, right, bottom;
  bool Meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

std::string SvgLine(double x1, double y1, double x2, double y2, const std::string& classes);
// anchor: start, middle or end.
std::string SvgWords(double x, double y, const char* anchor, const std::string& text,
                     const char* classes = "");
// The mark of a row around a point.
std::string SvgMark(double x, double y, const Look& look);
// Hovering and screen readers say what a drawing stands for.
std::string SvgNamed(const std::string& drawing, const std::string& name);

// The tick lines and numbers of a horizontal axis.
std::string HorizontalAxis(const Axis& axis, const Scale& x, double top, double bottom);
// The frame of a plot with two axes.
std::string Frame(const Axis& x_axis, const Axis& y_axis, const Scale& x, const Scale& y,
                  const Box& plot);

// The names of rows, left of a plot, each with its mark.
class RowNames {
 public:
  explicit RowNames(const std::vector<std::string>& names);
  double width() const { return width_; }
  // The name of a row whose middle stands at `y`.
  std::string At(double y, const std::string& name, const Look& look) const;

 private:
  double width_;
};

}  // namespace excise
