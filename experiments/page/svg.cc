#include "experiments/page/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/escape.h"
#include "core/text.h"
#include "experiments/page/html_style.h"

namespace excise {
namespace {

constexpr double kLetter = 7;  // the usual width of one, in pixels
constexpr size_t kMostOfName = 19;

std::string Safe(const std::string& data) { return Escape(data, Format::kHtml); }

}  // namespace

std::string FigureHtml(const Drawing& drawing) {
  const bool wide = drawing.width > kFigureWidth;
  const std::string svg = fmt::format(
      "<svg role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {:g} {:g}\" width=\"{:g}\" "
      "height=\"{:g}\">{}</svg>",
      Safe(drawing.described), drawing.width, drawing.height, drawing.width, drawing.height,
      drawing.body);
  return fmt::format(
      "<figure class=\"figure{}\"><figcaption>{}</figcaption>{}{}{}</figure>\n",
      wide ? " wide" : "", Safe(drawing.title),
      wide ? fmt::format("<div class=\"pan\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">",
                         Safe(drawing.title))
           : "",
      svg, wide ? "</div>" : "");
}

std::string SvgFile(const Drawing& drawing) {
  constexpr double kTitle = 30;  // the height of its line
  const double height = drawing.height + kTitle;
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 {0:g} {1:g}\" "
      "width=\"{0:g}\" height=\"{1:g}\">\n<title>{2}</title>\n<desc>{3}</desc>\n"
      "<style>{4}</style>\n<rect width=\"{0:g}\" height=\"{1:g}\" class=\"ground\"/>\n"
      "<text x=\"10\" y=\"20\" class=\"title\">{2}</text>\n"
      "<g transform=\"translate(0 {5:g})\">{6}</g>\n</svg>\n",
      drawing.width, height, Safe(drawing.title), Safe(drawing.described), FigureFileStyle(),
      kTitle, drawing.body);
}

Drawing SideBySide(const std::string& title, const std::vector<Drawing>& drawings) {
  constexpr double kTitle = 24;
  Drawing all{title, title, 0, 0, ""};
  for (const Drawing& drawing : drawings) {
    all.body +=
        fmt::format("<g transform=\"translate({:g} {:g})\">{}{}</g>", all.width, kTitle,
                    SvgWords(drawing.width / 2, -8, "middle", drawing.title, "axis"), drawing.body);
    all.described += "; " + drawing.described;
    all.width += drawing.width;
    all.height = std::max(all.height, drawing.height + kTitle);
  }
  return all;
}

Axis AxisAround(const std::vector<Estimate>& estimates, AxisUnit unit, const std::string& label) {
  Axis axis{0, 1, unit, label};
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

namespace {

std::vector<double> LogarithmicTicks(const Axis& axis) {
  constexpr size_t kMost = 6;
  std::vector<double> ticks, powers;
  for (double power = std::pow(10, std::floor(std::log10(axis.low))); power <= axis.high;
       power *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) {
      const double tick = step * power;
      if (tick < axis.low * (1 - 1e-9) || tick > axis.high * (1 + 1e-9)) continue;
      ticks.push_back(tick);
      if (step == 1) powers.push_back(tick);
    }
  }
  return ticks.size() > kMost ? powers : ticks;
}

}  // namespace

std::vector<double> Ticks(const Axis& axis) {
  if (axis.logarithmic) return LogarithmicTicks(axis);
  const double span = axis.high - axis.low;
  double step = std::pow(10, std::floor(std::log10(span)));
  for (const double part : {1.0, 0.5, 0.25}) {
    if (span / (step * part) >= 3) {
      step *= part;
      break;
    }
  }
  if (span / step < 3) step *= 0.2;
  if (span / step > 6.5) step *= 2;
  std::vector<double> ticks;
  for (double i = std::ceil(axis.low / step - 1e-9); i * step <= axis.high + 1e-9 * span; ++i) {
    ticks.push_back(i * step + 0.0);
  }
  return ticks;
}

std::string Number(double value, AxisUnit unit) {
  if (unit == AxisUnit::kPlain) return fmt::format("{:.4g}", value);
  if (unit == AxisUnit::kPercent) return fmt::format("{:.0f} %", 100 * value);
  const double points = std::round(100 * value);
  return points == 0 ? "0" : fmt::format("{:+.0f}", points);
}

std::string Said(const Estimate& estimate, AxisUnit unit) {
  if (!estimate.has_interval) return Number(estimate.value, unit);
  return fmt::format("{} [{}, {}]", Number(estimate.value, unit), Number(estimate.low, unit),
                     Number(estimate.high, unit));
}

std::string Cut(const std::string& text, size_t most) {
  const std::string visible = Escape(text, Format::kTerminal);
  const std::string_view kept = FirstCharacters(visible, most);
  return kept.size() == visible.size() ? visible : std::string(kept) + "…";
}

double Scale::operator()(double value) const {
  const auto place = [&](double v) { return axis_.logarithmic ? std::log(v) : v; };
  const double low = place(axis_.low);
  const double share = (place(value) - low) / (place(axis_.high) - low);
  return from_ + std::min(1.0, std::max(0.0, share)) * (to_ - from_);
}

std::string SvgLine(double x1, double y1, double x2, double y2, const std::string& classes) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>",
                     x1, y1, x2, y2, classes);
}

std::string SvgWords(double x, double y, const char* anchor, const std::string& text,
                     const char* classes) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>", x,
                     y, anchor, classes, Safe(text));
}

std::string SvgMark(double x, double y, const Look& look) {
  const std::string classes = "dot " + ClassesOf(look);
  switch (ShapeOf(look)) {
    case 1:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"7\" height=\"7\" class=\"{}\"/>",
                         x - 3.5, y - 3.5, classes);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 8h-10z\" class=\"{}\"/>", x, y - 5, classes);
    case 3:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 5l-5 5l-5 -5z\" class=\"{}\"/>", x, y - 5,
                         classes);
    default:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" class=\"{}\"/>", x, y,
                         classes);
  }
}

std::string SvgNamed(const std::string& drawing, const std::string& name) {
  return "<g><title>" + Safe(name) + "</title>" + drawing + "</g>";
}

std::string HorizontalAxis(const Axis& axis, const Scale& x, double top, double bottom) {
  std::string out;
  for (const double tick : Ticks(axis)) {
    out += SvgLine(x(tick), top, x(tick), bottom, "grid");
    out += SvgWords(x(tick), bottom + 14, "middle", Number(tick, axis.unit), "tick");
  }
  return out;
}

std::string Frame(const Axis& x_axis, const Axis& y_axis, const Scale& x, const Scale& y,
                  const Box& plot) {
  std::string out = HorizontalAxis(x_axis, x, plot.top, plot.bottom);
  for (const double tick : Ticks(y_axis)) {
    out += SvgLine(plot.left, y(tick), plot.right, y(tick), "grid");
    out += SvgWords(plot.left - 6, y(tick) + 4, "end", Number(tick, y_axis.unit), "tick");
  }
  out += SvgWords((plot.left + plot.right) / 2, plot.bottom + 32, "middle", x_axis.label, "axis");
  return out + fmt::format(
                   "<text transform=\"translate(12 {:.1f}) rotate(-90)\" text-anchor=\"middle\" "
                   "class=\"axis\">{}</text>",
                   (plot.top + plot.bottom) / 2, Safe(y_axis.label));
}

RowNames::RowNames(const std::vector<std::string>& names) {
  size_t longest = 0;
  for (const std::string& name : names) longest = std::max(longest, TextWidth(name));
  width_ = std::max(84.0, kLetter * static_cast<double>(std::min(longest, kMostOfName)) + 28);
}

std::string RowNames::At(double y, const std::string& name, const Look& look) const {
  return SvgWords(width_ - 21, y + 4, "end", Cut(name, kMostOfName), look.reference ? "dim" : "") +
         SvgMark(width_ - 11, y, look);
}

}  // namespace excise
