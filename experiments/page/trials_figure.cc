#include "experiments/page/trials_figure.h"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/page/figures.h"

namespace excise {
namespace {

constexpr double kPanelHeight = 290;
constexpr Look kTrial = {0, false};
constexpr Look kChosen = {13, false};  // a diamond of another colour

// Where 2 / (1 / removal + 1 / retention) is `score`, for retention from just above score / 2,
// where removal is 1, to 1.
std::string LevelCurve(double score, const Scale& x, const Scale& y) {
  const double first = score / (2 - score);
  std::string path;
  constexpr int kSteps = 40;
  for (int i = 0; i <= kSteps; ++i) {
    const double retention = first + (1 - first) * i / kSteps;
    const double removal = score * retention / (2 * retention - score);
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(retention), y(removal));
  }
  return fmt::format("<path d=\"{}\" fill=\"none\" class=\"zero\"/>", path);
}

std::string FrontLine(const std::vector<TrialDot>& trials, const Scale& x, const Scale& y,
                      const Box& plot) {
  std::vector<FrontPoint> points;
  for (const TrialDot& dot : trials) {
    const double left = 1 - dot.removal;
    points.push_back({"",
                      kTrial,
                      {dot.retention, dot.retention, dot.retention, false, 1},
                      {left, left, left, false, 1}});
  }
  std::string path;
  for (const size_t i : Front(points, /*x_higher=*/true)) {
    const double px = x(trials[i].retention), py = y(trials[i].removal);
    path += path.empty() ? fmt::format("M{:.1f} {:.1f}H{:.1f}", plot.left, py, px)
                         : fmt::format("V{:.1f}H{:.1f}", py, px);
  }
  return path.empty() ? ""
                      : fmt::format("<path d=\"{}V{:.1f}\" class=\"front\"/>", path, plot.bottom);
}

// In its own corner at (0, 0). What it says is added to `described`.
std::string Panel(const TrialPanel& panel, std::string* described) {
  const Axis retention{0, 1, AxisUnit::kPercent, "retention"};
  const Axis removal{0, 1, AxisUnit::kPercent, "removal"};
  const Box plot{58, 24, kFigureWidth - 22, kPanelHeight - 44};
  const Scale x(retention, plot.left, plot.right), y(removal, plot.bottom, plot.top);
  std::string body = SvgWords((plot.left + plot.right) / 2, 14, "middle", panel.label);
  body += Frame(retention, removal, x, y, plot);
  body += FrontLine(panel.trials, x, y, plot);
  std::string marks, choice;
  for (const TrialDot& dot : panel.trials) {
    const std::string said =
        fmt::format("{}{}: removal {}, retention {}", panel.label, dot.chosen ? ", the choice" : "",
                    Number(dot.removal, AxisUnit::kPercent),
                    Number(dot.retention, AxisUnit::kPercent)) +
        (dot.said.empty() ? "" : "; " + dot.said);
    const std::string mark =
        SvgNamed(SvgMark(x(dot.retention), y(dot.removal), dot.chosen ? kChosen : kTrial), said);
    (dot.chosen ? choice : marks) += mark;
    *described += "; " + said;
    if (!dot.chosen || dot.removal <= 0 || dot.retention <= 0) continue;
    body += LevelCurve(2 / (1 / dot.removal + 1 / dot.retention), x, y);
  }
  return body + marks + choice;
}

}  // namespace

Drawing TrialsFigure(const std::string& title, const std::vector<TrialPanel>& panels) {
  Drawing drawing{title, title, panels.size() > 1 ? 2 * kFigureWidth : kFigureWidth, 0, ""};
  for (size_t i = 0; i < panels.size(); ++i) {
    drawing.body += fmt::format(
        "<g transform=\"translate({:g} {:g})\">{}</g>", static_cast<double>(i % 2) * kFigureWidth,
        static_cast<double>(i / 2) * kPanelHeight, Panel(panels[i], &drawing.described));
  }
  drawing.height = static_cast<double>((panels.size() + 1) / 2) * kPanelHeight;
  return drawing;
}

}  // namespace excise
