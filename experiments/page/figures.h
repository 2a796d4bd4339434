// Figures of results. Each is small enough for a phone where its rows and columns allow, and takes
// its colours from a style sheet, so that it follows dark mode. Labels are data and escaped.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "experiments/page/svg.h"

namespace excise {

struct IntervalRow {
  std::string label;
  Look look;
  std::optional<Estimate> estimate;  // none: the row says "no value"
  bool significant = true;           // else its interval is dashed
};
// Dots with their 95 % intervals, one row each; a line at zero where the axis has it inside.
Drawing IntervalFigure(const std::string& title, const Axis& axis,
                       const std::vector<IntervalRow>& rows);

// A rate, or the word that stands where there is none.
struct HeatCell {
  std::optional<Estimate> rate;
  std::string word;
};
struct HeatRow {
  std::string label;
  Look look;
  std::vector<HeatCell> cells;  // one for every column
};
// Rates as numbers on a ground that is the stronger the higher they are, 0 to 1.
Drawing HeatMap(const std::string& title, const std::vector<std::string>& columns,
                const std::vector<HeatRow>& rows);

// A part of the whole: "target" is how it is coloured, `label` what the legend calls it.
struct StackPart {
  std::string outcome, label;
};
struct StackRow {
  std::string label;
  Look look;
  std::vector<double> shares;  // one for every part, together at most 1; empty: "no value"
};
// A bar for every row, parted; with a legend below.
Drawing StackFigure(const std::string& title, const std::vector<StackPart>& parts,
                    const std::vector<StackRow>& rows);

struct FrontPoint {
  std::string label;
  Look look;  // a reference row takes no part in the front
  Estimate x, y;
};
// Points with their intervals on both axes, and the front: those that no other one surpasses in
// both. x: `x_higher` is better. y: lower is better, and drawn further up. Many points are drawn
// wider than a phone.
Drawing FrontFigure(const std::string& title, const Axis& x, bool x_higher, const Axis& y,
                    const std::vector<FrontPoint>& points);
// The indices of the points on the front, by rising x.
std::vector<size_t> Front(const std::vector<FrontPoint>& points, bool x_higher);

struct Curve {
  std::string label;
  Look look;  // a reference row is drawn dashed
  std::vector<std::pair<double, double>> points;
  std::optional<std::pair<double, double>> mark = {};  // the only mark, wherever the line ends
};
// Lines with a mark at every point, of many at the last one; with a legend below.
Drawing CurveFigure(const std::string& title, const Axis& x, const Axis& y,
                    const std::vector<Curve>& curves);

}  // namespace excise
