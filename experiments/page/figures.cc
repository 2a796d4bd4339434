#include "experiments/page/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/escape.h"
#include "core/text.h"

namespace excise {
namespace {

constexpr double kWidth = 340;
constexpr double kRow = 22;
constexpr double kPlotHeight = 230;
constexpr size_t kColours = 6, kShapes = 4;

std::string Safe(const std::string& data) { return Escape(data, Format::kHtml); }

// The first `characters` of UTF-8 text; what is cut off is shown as an ellipsis.
std::string Shortened(const std::string& text, size_t characters) {
  const std::string visible = Escape(text, Format::kTerminal);
  const std::string_view kept = FirstCharacters(visible, characters);
  return kept.size() == visible.size() ? visible : std::string(kept) + "…";
}

std::string Number(double value, bool percent) {
  return percent ? fmt::format("{:.0f} %", 100 * value) : fmt::format("{:.4g}", value);
}

std::string Said(const Estimate& estimate, bool percent) {
  if (!estimate.has_interval) return Number(estimate.value, percent);
  return fmt::format("{} [{}, {}]", Number(estimate.value, percent), Number(estimate.low, percent),
                     Number(estimate.high, percent));
}

// Round numbers inside the axis, three to six of them.
std::vector<double> Ticks(const Axis& axis) {
  const double span = axis.high - axis.low;
  double step = std::pow(10, std::floor(std::log10(span)));
  for (const double part : {1.0, 0.5, 0.25}) {
    if (span / (step * part) >= 3) {
      step *= part;
      break;
    }
  }
  if (span / step < 3) step *= 0.2;
  std::vector<double> ticks;
  for (double i = std::ceil(axis.low / step - 1e-9); i * step <= axis.high + 1e-9 * span; ++i) {
    ticks.push_back(i * step + 0.0);
  }
  return ticks;
}

// Where a value stands between two places of the drawing; what lies outside stands at the edge.
class Scale {
 public:
  Scale(const Axis& axis, double from, double to) : axis_(axis), from_(from), to_(to) {}
  double operator()(double value) const {
    const double share =
        std::min(1.0, std::max(0.0, (value - axis_.low) / (axis_.high - axis_.low)));
    return from_ + share * (to_ - from_);
  }

 private:
  Axis axis_;
  double from_, to_;
};

std::string Line(double x1, double y1, double x2, double y2, const char* style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>",
                     x1, y1, x2, y2, style);
}

// anchor: start, middle or end.
std::string Words(double x, double y, const char* anchor, const std::string& text,
                  const char* style = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>", x,
                     y, anchor, style, Safe(text));
}

// Hovering and screen readers say what a mark stands for.
std::string Named(const std::string& drawing, const std::string& name) {
  return "<g><title>" + Safe(name) + "</title>" + drawing + "</g>";
}

std::string Svg(const std::string& title, const std::string& described, double height,
                const std::string& body) {
  return fmt::format(
      "<figure class=\"figure\"><figcaption>{}</figcaption><svg role=\"img\" aria-label=\"{}\" "
      "viewBox=\"0 0 {:g} {:g}\" width=\"{:g}\" height=\"{:g}\">{}</svg></figure>\n",
      Safe(title), Safe(described), kWidth, height, kWidth, height, body);
}

std::string HorizontalAxis(const Axis& axis, const Scale& x, double top, double bottom) {
  std::string out;
  for (const double tick : Ticks(axis)) {
    out += Line(x(tick), top, x(tick), bottom, "grid");
    out += Words(x(tick), bottom + 14, "middle", Number(tick, axis.percent), "tick");
  }
  return out;
}

// One of four shapes around a point.
std::string Mark(double x, double y, size_t shape, const std::string& style) {
  constexpr double r = 4;
  switch (shape % kShapes) {
    case 1:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"7\" height=\"7\" class=\"{}\"/>",
                         x - 3.5, y - 3.5, style);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 8h-10z\" class=\"{}\"/>", x, y - 5, style);
    case 3:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 5l-5 5l-5 -5z\" class=\"{}\"/>", x, y - 5,
                         style);
    default:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:g}\" class=\"{}\"/>", x, y, r,
                         style);
  }
}

struct Box {
  double left, top, right, bottom;
  bool Meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

// Where a point's label meets no other label and no point; beside the point if there is no place.
class Labels {
 public:
  explicit Labels(const Box& room) : room_(room) {}
  void Avoid(double x, double y) { taken_.push_back({x - 4, y - 4, x + 4, y + 4}); }
  std::string Place(double x, double y, const std::string& label) {
    const std::string text = Shortened(label, 22);
    const double width = 7 * static_cast<double>(TextWidth(text));
    const Box places[] = {{x + 8, y - 8, x + 8 + width, y + 5},
                          {x - 8 - width, y - 8, x - 8, y + 5},
                          {x + 4, y - 20, x + 4 + width, y - 7},
                          {x + 4, y + 7, x + 4 + width, y + 20},
                          {x - 4 - width, y - 20, x - 4, y - 7},
                          {x - 4 - width, y + 7, x - 4, y + 20},
                          {x - width / 2, y - 34, x + width / 2, y - 21},
                          {x - width / 2, y + 21, x + width / 2, y + 34}};
    const Box* chosen = &places[x > (room_.left + room_.right) / 2 ? 1 : 0];
    for (const Box& place : places) {
      if (!Free(place)) continue;
      chosen = &place;
      break;
    }
    taken_.push_back(*chosen);
    return Words(chosen->left, chosen->bottom - 3, "start", text, "label");
  }

 private:
  bool Free(const Box& place) const {
    const bool inside = place.left >= room_.left && place.right <= room_.right &&
                        place.top >= room_.top && place.bottom <= room_.bottom;
    return inside && std::none_of(taken_.begin(), taken_.end(),
                                  [&](const Box& box) { return box.Meets(place); });
  }
  Box room_;
  std::vector<Box> taken_;
};

// The frame of a plot with two axes.
std::string Frame(const Axis& x_axis, const Axis& y_axis, const Scale& x, const Scale& y,
                  const Box& plot) {
  std::string out = HorizontalAxis(x_axis, x, plot.top, plot.bottom);
  for (const double tick : Ticks(y_axis)) {
    out += Line(plot.left, y(tick), plot.right, y(tick), "grid");
    out += Words(plot.left - 6, y(tick) + 4, "end", Number(tick, y_axis.percent), "tick");
  }
  out += Words((plot.left + plot.right) / 2, plot.bottom + 32, "middle", x_axis.label, "axis");
  return out + fmt::format(
                   "<text transform=\"translate(12 {:.1f}) rotate(-90)\" text-anchor=\"middle\" "
                   "class=\"axis\">{}</text>",
                   (plot.top + plot.bottom) / 2, Safe(y_axis.label));
}

}  // namespace

Axis AxisAround(const std::vector<Estimate>& estimates, const std::string& label) {
  Axis axis{0, 1, false, label};
  if (estimates.empty()) return axis;
  axis.low = axis.high = estimates.front().value;
  for (const Estimate& estimate : estimates) {
    axis.low = std::min(axis.low, estimate.low);
    axis.high = std::max(axis.high, estimate.high);
  }
  const double span = axis.high - axis.low;
  const double margin = span > 0 ? 0.06 * span : std::max(1e-9, 0.1 * std::fabs(axis.low));
  axis.low -= margin;
  axis.high += margin;
  return axis;
}

std::string IntervalFigure(const std::string& title, const Axis& axis,
                           const std::vector<IntervalRow>& rows) {
  size_t longest = 0;
  for (const IntervalRow& row : rows) longest = std::max(longest, TextWidth(row.label));
  const double left = std::min(140.0, std::max(50.0, 6.6 * static_cast<double>(longest) + 14));
  const double top = 4, bottom = top + kRow * static_cast<double>(rows.size());
  const Scale x(axis, left, kWidth - 22);
  std::string body = HorizontalAxis(axis, x, top, bottom), described = title;
  double y = top + kRow / 2;
  for (const IntervalRow& row : rows) {
    const std::string label = Shortened(row.label, 19);
    std::string drawing = Words(left - 8, y + 4, "end", label, row.reference ? "dim" : "");
    std::string said = row.label + ": no value";
    if (row.estimate) {
      const Estimate& e = *row.estimate;
      said = row.label + ": " + Said(e, axis.percent);
      const char* style = row.reference ? "bar reference" : "bar";
      if (e.has_interval) drawing += Line(x(e.low), y, x(e.high), y, style);
      drawing += Mark(x(e.value), y, 0, row.reference ? "dot reference" : "dot");
    } else {
      drawing += Words(left + 4, y + 4, "start", "no value", "dim");
    }
    body += Named(drawing, said);
    described += "; " + said;
    y += kRow;
  }
  return Svg(title, described, bottom + 20, body);
}

std::vector<size_t> Front(const std::vector<FrontPoint>& points, bool x_higher) {
  const auto x = [&](size_t i) { return x_higher ? points[i].x.value : -points[i].x.value; };
  const auto y = [&](size_t i) { return -points[i].y.value; };
  std::vector<size_t> front;
  for (size_t i = 0; i < points.size(); ++i) {
    bool surpassed = points[i].reference;
    for (size_t j = 0; j < points.size() && !surpassed; ++j) {
      surpassed =
          !points[j].reference && x(j) >= x(i) && y(j) >= y(i) && (x(j) > x(i) || y(j) > y(i));
    }
    if (!surpassed) front.push_back(i);
  }
  std::stable_sort(front.begin(), front.end(),
                   [&](size_t a, size_t b) { return points[a].x.value < points[b].x.value; });
  return front;
}

std::string FrontFigure(const std::string& title, const Axis& x_axis, bool x_higher,
                        const Axis& y_axis, const std::vector<FrontPoint>& points) {
  const Box plot{58, 10, kWidth - 22, 10 + kPlotHeight};
  const Scale x(x_axis, plot.left, plot.right), y(y_axis, plot.top, plot.bottom);
  std::string body = Frame(x_axis, y_axis, x, y, plot), described = title, steps;
  const std::vector<size_t> front = Front(points, x_higher);
  const double worst_x = x_higher ? plot.left : plot.right;
  for (size_t i = 0; i < front.size(); ++i) {
    const FrontPoint& point = points[x_higher ? front[i] : front[front.size() - 1 - i]];
    const double px = x(point.x.value), py = y(point.y.value);
    steps += i == 0 ? fmt::format("M{:.1f} {:.1f}H{:.1f}", worst_x, py, px)
                    : fmt::format("V{:.1f}H{:.1f}", py, px);
  }
  if (!front.empty()) {
    body += fmt::format("<path d=\"{}V{:.1f}\" class=\"front\"/>", steps, plot.bottom);
  }
  Labels labels(plot);
  std::string names;  // above all marks
  for (const FrontPoint& p : points) labels.Avoid(x(p.x.value), y(p.y.value));
  for (const FrontPoint& p : points) {
    const double px = x(p.x.value), py = y(p.y.value);
    const char* style = p.reference ? "bar thin reference" : "bar thin";
    std::string drawing;
    if (p.x.has_interval) drawing += Line(x(p.x.low), py, x(p.x.high), py, style);
    if (p.y.has_interval) drawing += Line(px, y(p.y.low), px, y(p.y.high), style);
    drawing += Mark(px, py, 0, p.reference ? "dot reference" : "dot");
    names += labels.Place(px, py, p.label);
    const std::string said =
        fmt::format("{}: {} {}, {} {}", p.label, x_axis.label, Said(p.x, x_axis.percent),
                    y_axis.label, Said(p.y, y_axis.percent));
    body += Named(drawing, said);
    described += "; " + said;
  }
  return Svg(title, described, plot.bottom + 40, body + names);
}

std::string CurveFigure(const std::string& title, const Axis& x_axis, const Axis& y_axis,
                        const std::vector<Curve>& curves) {
  const Box plot{58, 10, kWidth - 22, 10 + kPlotHeight};
  const Scale x(x_axis, plot.left, plot.right), y(y_axis, plot.bottom, plot.top);
  std::string body = Frame(x_axis, y_axis, x, y, plot), described = title;
  double legend = plot.bottom + 46;
  for (size_t i = 0; i < curves.size(); ++i) {
    const Curve& curve = curves[i];
    const std::string colour = fmt::format("s{}", i % kColours);
    const std::string stroke = colour + (curve.reference ? " curve dashed" : " curve");
    std::string path, marks, said = curve.label + ":";
    for (const auto& [px, py] : curve.points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(px), y(py));
      if (curve.points.size() <= 12) marks += Mark(x(px), y(py), i, colour);
    }
    if (!curve.points.empty()) {
      const auto& last = curve.points.back();
      marks += curve.points.size() > 12 ? Mark(x(last.first), y(last.second), i, colour) : "";
      said += fmt::format(" {} at {}", Number(last.second, y_axis.percent),
                          Number(last.first, x_axis.percent));
    }
    std::string drawing = fmt::format("<path d=\"{}\" class=\"{}\"/>", path, stroke) + marks;
    if (curves.size() > 1) {
      const double column = plot.left + (i % 2 == 0 ? 0 : 136);
      drawing += Line(column, legend, column + 22, legend, stroke.c_str());
      drawing += Mark(column + 11, legend, i, colour);
      drawing += Words(column + 28, legend + 4, "start", Shortened(curve.label, 17));
    }
    body += Named(drawing, said);
    described += "; " + said;
    if (curves.size() > 1 && (i % 2 == 1 || i + 1 == curves.size())) legend += 18;
  }
  return Svg(title, described, legend, body);
}

}  // namespace excise
