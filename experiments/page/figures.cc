#include "experiments/page/figures.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/text.h"

namespace excise {
namespace {

constexpr double kPlotHeight = 230;
// So many points and their names fit a phone.
constexpr size_t kFewPoints = 10;

// Where a point's label meets no other label and no point; beside the point if there is no place.
class Labels {
 public:
  explicit Labels(const Box& room) : room_(room) {}
  void Avoid(double x, double y) { taken_.push_back({x - 4, y - 4, x + 4, y + 4}); }
  std::string Place(double x, double y, const std::string& label) {
    const std::string text = Cut(label, 22);
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
    return SvgWords(chosen->left, chosen->bottom - 3, "start", text, "label");
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

}  // namespace

std::vector<size_t> Front(const std::vector<FrontPoint>& points, bool x_higher) {
  const auto x = [&](size_t i) { return x_higher ? points[i].x.value : -points[i].x.value; };
  const auto y = [&](size_t i) { return -points[i].y.value; };
  std::vector<size_t> front;
  for (size_t i = 0; i < points.size(); ++i) {
    bool surpassed = points[i].look.reference;
    for (size_t j = 0; j < points.size() && !surpassed; ++j) {
      surpassed =
          !points[j].look.reference && x(j) >= x(i) && y(j) >= y(i) && (x(j) > x(i) || y(j) > y(i));
    }
    if (!surpassed) front.push_back(i);
  }
  std::stable_sort(front.begin(), front.end(),
                   [&](size_t a, size_t b) { return points[a].x.value < points[b].x.value; });
  return front;
}

Drawing FrontFigure(const std::string& title, const Axis& x_axis, bool x_higher, const Axis& y_axis,
                    const std::vector<FrontPoint>& points) {
  const bool few = points.size() <= kFewPoints;
  const double width = few ? kFigureWidth : 2 * kFigureWidth;
  const Box plot{58, 10, width - 22, 10 + (few ? kPlotHeight : 2 * kPlotHeight)};
  const Scale x(x_axis, plot.left, plot.right), y(y_axis, plot.top, plot.bottom);
  Drawing drawing{title, title, width, plot.bottom + 40, Frame(x_axis, y_axis, x, y, plot)};
  const std::vector<size_t> front = Front(points, x_higher);
  const double worst_x = x_higher ? plot.left : plot.right;
  std::string steps;
  for (size_t i = 0; i < front.size(); ++i) {
    const FrontPoint& point = points[x_higher ? front[i] : front[front.size() - 1 - i]];
    const double px = x(point.x.value), py = y(point.y.value);
    steps += i == 0 ? fmt::format("M{:.1f} {:.1f}H{:.1f}", worst_x, py, px)
                    : fmt::format("V{:.1f}H{:.1f}", py, px);
  }
  if (!front.empty()) {
    drawing.body += fmt::format("<path d=\"{}V{:.1f}\" class=\"front\"/>", steps, plot.bottom);
  }
  Labels labels(plot);
  std::string names;  // above all marks
  for (const FrontPoint& p : points) labels.Avoid(x(p.x.value), y(p.y.value));
  for (const FrontPoint& p : points) {
    const double px = x(p.x.value), py = y(p.y.value);
    const std::string style = "bar thin " + ClassesOf(p.look);
    std::string mark;
    if (p.x.has_interval) mark += SvgLine(x(p.x.low), py, x(p.x.high), py, style);
    if (p.y.has_interval) mark += SvgLine(px, y(p.y.low), px, y(p.y.high), style);
    mark += SvgMark(px, py, p.look);
    names += labels.Place(px, py, p.label);
    const std::string said =
        fmt::format("{}: {} {}, {} {}", p.label, x_axis.label, Said(p.x, x_axis.unit), y_axis.label,
                    Said(p.y, y_axis.unit));
    drawing.body += SvgNamed(mark, said);
    drawing.described += "; " + said;
  }
  drawing.body += names;
  return drawing;
}

Drawing CurveFigure(const std::string& title, const Axis& x_axis, const Axis& y_axis,
                    const std::vector<Curve>& curves) {
  const Box plot{58, 10, kFigureWidth - 22, 10 + kPlotHeight};
  const Scale x(x_axis, plot.left, plot.right), y(y_axis, plot.bottom, plot.top);
  Drawing drawing{title, title, kFigureWidth, 0, Frame(x_axis, y_axis, x, y, plot)};
  double legend = plot.bottom + 46;
  for (size_t i = 0; i < curves.size(); ++i) {
    const Curve& curve = curves[i];
    const std::string stroke =
        (curve.look.reference ? "curve dashed " : "curve ") + ClassesOf(curve.look);
    std::string path, marks, said = curve.label + ":";
    for (const auto& [px, py] : curve.points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(px), y(py));
      if (curve.points.size() <= 12 && !curve.mark) marks += SvgMark(x(px), y(py), curve.look);
    }
    if (!curve.points.empty()) {
      const auto& last = curve.mark ? *curve.mark : curve.points.back();
      if (curve.points.size() > 12 || curve.mark)
        marks += SvgMark(x(last.first), y(last.second), curve.look);
      said += fmt::format(" {} at {}", Number(last.second, y_axis.unit),
                          Number(last.first, x_axis.unit));
    }
    std::string drawn = fmt::format("<path d=\"{}\" class=\"{}\"/>", path, stroke) + marks;
    if (curves.size() > 1) {
      const double column = i % 2 == 0 ? 10 : 174;
      drawn += SvgLine(column, legend, column + 22, legend, stroke);
      drawn += SvgMark(column + 11, legend, curve.look);
      drawn += SvgWords(column + 28, legend + 4, "start", Cut(curve.label, 18));
    }
    drawing.body += SvgNamed(drawn, said);
    drawing.described += "; " + said;
    if (curves.size() > 1 && (i % 2 == 1 || i + 1 == curves.size())) legend += 18;
  }
  drawing.height = legend;
  return drawing;
}

}  // namespace excise
