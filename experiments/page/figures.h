// Figures as inline SVG for a page. Each is small enough for a phone and takes its colours from the
// page's style sheet, so that it follows dark mode. Labels are data and escaped.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/tables/table.h"

namespace excise {

struct Axis {
  double low = 0, high = 1;
  bool percent = true;  // ticks are written times 100 with "%"
  std::string label;
};
// An axis from a little below the smallest value to a little above the largest one.
Axis AxisAround(const std::vector<Estimate>& estimates, const std::string& label);

struct IntervalRow {
  std::string label;
  std::optional<Estimate> estimate;  // none: the row says "no value"
  bool reference = false;            // drawn hollow
};
// Dots with their 95 % intervals, one row each.
std::string IntervalFigure(const std::string& title, const Axis& axis,
                           const std::vector<IntervalRow>& rows);

struct FrontPoint {
  std::string label;
  Estimate x, y;
  bool reference = false;  // takes no part in the front
};
// Points with their intervals on both axes, and the front: those that no other one surpasses in
// both. x: `x_higher` is better. y: lower is better, and drawn further up.
std::string FrontFigure(const std::string& title, const Axis& x, bool x_higher, const Axis& y,
                        const std::vector<FrontPoint>& points);
// The indices of the points on the front, by rising x.
std::vector<size_t> Front(const std::vector<FrontPoint>& points, bool x_higher);

struct Curve {
  std::string label;
  std::vector<std::pair<double, double>> points;
  bool reference = false;  // drawn dashed
};
// Lines with a mark at every point, distinguished by colour and by the shape of the marks; with a
// legend below.
std::string CurveFigure(const std::string& title, const Axis& x, const Axis& y,
                        const std::vector<Curve>& curves);

}  // namespace excise
