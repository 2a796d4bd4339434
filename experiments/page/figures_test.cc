// Figures as text, and their colours as readers see them.
#include "experiments/page/figures.h"

#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <regex>
#include <set>

#include "core/error.h"
#include "experiments/page/html_style.h"
#include "experiments/page/page_figures.h"
#include "tests/hostile_results.h"

namespace excise {
namespace {

using Catch::Contains;

size_t Count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

Estimate Exactly(double value) { return {value, value, value, false, 10}; }

// Red, green and blue, linear, 0 to 1.
using Rgb = std::array<double, 3>;

double Linear(double v) { return v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4); }

// The value of a variable in the style sheet's light (0) or dark (1) scheme, not yet linear.
Rgb Named(const std::string& name, size_t scheme) {
  const std::string style = PageStyle();
  const std::regex pattern("--" + name + ": #([0-9a-f]{6})");
  std::vector<std::string> found;
  for (std::sregex_iterator it(style.begin(), style.end(), pattern), none; it != none; ++it) {
    found.push_back((*it)[1]);
  }
  REQUIRE(found.size() == 2);
  Rgb rgb;
  for (size_t i = 0; i < 3; ++i)
    rgb[i] = std::stoi(found[scheme].substr(2 * i, 2), nullptr, 16) / 255.0;
  return rgb;
}

Rgb Linear(Rgb rgb) {
  for (double& v : rgb) v = Linear(v);
  return rgb;
}

// WCAG 2.1, relative luminance and contrast ratio.
double Contrast(const Rgb& a, const Rgb& b) {
  const auto luminance = [](const Rgb& c) {
    const Rgb l = Linear(c);
    return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2];
  };
  const double x = luminance(a), y = luminance(b);
  return (std::max(x, y) + 0.05) / (std::min(x, y) + 0.05);
}

Rgb Times(const double (&m)[3][3], const Rgb& v) {
  Rgb out;
  for (size_t i = 0; i < 3; ++i) out[i] = m[i][0] * v[0] + m[i][1] * v[1] + m[i][2] * v[2];
  return out;
}

// CIE L*a*b* (D65) of linear RGB.
Rgb Lab(const Rgb& rgb) {
  constexpr double kXyz[3][3] = {
      {0.4124, 0.3576, 0.1805}, {0.2126, 0.7152, 0.0722}, {0.0193, 0.1192, 0.9505}};
  Rgb xyz = Times(kXyz, rgb);
  xyz[0] /= 0.9505;
  xyz[2] /= 1.089;
  for (double& v : xyz) v = v > 0.008856 ? std::cbrt(v) : 7.787 * v + 16.0 / 116;
  return {116 * xyz[1] - 16, 500 * (xyz[0] - xyz[1]), 200 * (xyz[1] - xyz[2])};
}

// How a reader without red or green cones sees linear RGB (Vienot, Brettel and Mollon 1999).
constexpr double kSight[3][3][3] = {
    {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
    {{0.11238, 0.88762, 0}, {0.11238, 0.88762, 0}, {0.00401, -0.00401, 1}},
    {{0.29275, 0.70725, 0}, {0.29275, 0.70725, 0}, {-0.02234, 0.02234, 1}}};

double Apart(const Rgb& a, const Rgb& b, const double (&sight)[3][3]) {
  Rgb seen[2] = {Times(sight, Linear(a)), Times(sight, Linear(b))};
  for (Rgb& rgb : seen) {
    for (double& v : rgb) v = std::min(1.0, std::max(0.0, v));
  }
  const Rgb x = Lab(seen[0]), y = Lab(seen[1]);
  return std::hypot(x[0] - y[0], x[1] - y[1], x[2] - y[2]);
}

}  // namespace

TEST_CASE("figures: a heat map has a cell for every rate, and a word where there is none") {
  const Drawing map = HeatMap("rates", {"no attack", "pez"},
                              {{"esd", {0, false}, {{Exactly(0.25), ""}, {std::nullopt, "n/a"}}},
                               {"uce", {1, false}, {{Exactly(1), ""}, {Exactly(0), ""}}}});
  CHECK(Count(map.body, "class=\"heat\"") == 3);
  CHECK_THAT(map.body, Contains("fill-opacity=\"0.250\"") && Contains(">25</text>") &&
                           Contains("class=\"hot\">100</text>") && Contains(">n/a</text>"));
  CHECK_THAT(map.described, Contains("esd, no attack: 25 %; esd, pez: n/a; uce, no attack: 100 %"));
  CHECK(map.width == kFigureWidth);
  const std::vector<std::string> many(20, "attack");
  const Drawing wide = HeatMap("", many, {{"esd", {}, std::vector<HeatCell>(20)}});
  CHECK(wide.width > kFigureWidth);
  CHECK_THAT(FigureHtml(wide), Contains("class=\"pan\" tabindex=\"0\""));
}

TEST_CASE("figures: the parts of a bar are as long as their shares") {
  const Drawing stack =
      StackFigure("what is drawn", {{"target", "target"}, {"garbage", "garbage"}},
                  {{"esd", {}, {0.25, 0.75}}, {"safe_clip", {}, {}}, {"uce", {}, {0, 1}}});
  const std::regex bar("width=\"([0-9.]+)\" height=\"18\" class=\"out ([a-z]+)\"");
  std::vector<std::pair<std::string, double>> bars;
  for (std::sregex_iterator it(stack.body.begin(), stack.body.end(), bar), none; it != none; ++it) {
    bars.emplace_back((*it)[2], std::stod((*it)[1]) + 0.8);
  }
  REQUIRE(bars.size() == 3);
  CHECK(bars[1].first == "garbage");
  CHECK(bars[1].second / bars[0].second == Approx(3).epsilon(0.02));
  CHECK(bars[2].second == Approx(bars[0].second + bars[1].second).epsilon(0.02));
  CHECK_THAT(stack.described, Contains("esd: target 25 %") && Contains("safe_clip: no value"));
}

TEST_CASE("figures: what is not significant is dashed, and zero has a line") {
  const Axis axis{-1, 0.5, AxisUnit::kPoints, "difference"};
  const Drawing figure = IntervalFigure("t", axis,
                                        {{"esd", {}, Estimate{-0.5, -0.6, -0.4, true, 9}, true},
                                         {"uce", {}, Estimate{-0.1, -0.2, 0.1, true, 9}, false}});
  CHECK(Count(figure.body, "bar dashed") == 1);
  CHECK(Count(figure.body, "class=\"zero\"") == 1);
  CHECK_THAT(figure.described, Contains("esd: -50 [-60, -40]; uce: -10 [-20, +10], not sig"));
}

TEST_CASE("figures: the front has those that none surpasses, and no reference row") {
  const std::vector<FrontPoint> points = {{"a", {}, Exactly(0.9), Exactly(0.5)},
                                          {"b", {}, Exactly(0.5), Exactly(0.1)},
                                          {"worse", {}, Exactly(0.4), Exactly(0.5)},
                                          {"retrained", {0, true}, Exactly(1), Exactly(0)}};
  CHECK(Front(points, true) == std::vector<size_t>{1, 0});
  CHECK(Front(points, false) == std::vector<size_t>{2, 1});
}

TEST_CASE("looks: the first 24 rows differ, and a row looks the same in every figure") {
  std::set<std::pair<std::string, size_t>> seen;
  for (size_t i = 0; i < 24; ++i) CHECK(seen.emplace(ClassesOf({i}), ShapeOf({i})).second);
  const Results results = MadeUpResults();
  const Looks looks{TableView(results)};
  CHECK(looks.Of("none").reference);
  CHECK(looks.Find("nobody") == nullptr);
  const Look look = looks.Of("near");
  CHECK(ClassesOf(look) == "k1");
  for (const Drawing& drawing :
       {IntervalFigure("", {}, {{"near", look, Exactly(0.5), true}}),
        HeatMap("", {"a"}, {{"near", look, {{Exactly(0.5), ""}}}}),
        StackFigure("", {{"target", ""}}, {{"near", look, {1}}}),
        FrontFigure("", {}, true, {}, {{"near", look, Exactly(0.5), Exactly(0.5)}}),
        CurveFigure("", {}, {}, {{"near", look, {{0, 0}, {1, 1}}}})}) {
    CHECK_THAT(drawing.body, Contains("width=\"7\" height=\"7\" class=\"dot k1\""));
    CHECK_THAT(drawing.body, !Contains("k0") && !Contains("k2"));
  }
}

TEST_CASE("colours stand out from the ground, and from each other for every kind of sight") {
  for (const size_t scheme : {0, 1}) {
    CAPTURE(scheme);
    const Rgb card = Named("card", scheme);
    for (const char* text : {"ink", "dim", "accent", "bad", "good"}) {
      CHECK(Contrast(Named(text, scheme), card) >= 4.5);
    }
    const std::vector<std::string> rows = {"ref", "k0", "k1", "k2", "k3", "k4", "k5"};
    for (size_t i = 0; i < rows.size(); ++i) {
      const Rgb colour = Named(rows[i], scheme);
      CAPTURE(rows[i]);
      CHECK(Contrast(colour, card) >= 3);
      for (size_t j = 0; j < i; ++j) {
        for (const auto& sight : kSight) CHECK(Apart(colour, Named(rows[j], scheme), sight) >= 20);
      }
    }
    for (const std::string outcome : {"target", "anchor", "other", "garbage", "blocked"}) {
      CAPTURE(outcome);
      CHECK(Contrast(Named("out-" + outcome, scheme), Named("ink-" + outcome, scheme)) >= 4.5);
    }
    for (int rate = 0; rate <= 100; ++rate) {  // as HeatMap lays the heat over the card
      Rgb ground = Named("heat", scheme);
      for (size_t i = 0; i < 3; ++i) ground[i] = card[i] + rate / 100.0 * (ground[i] - card[i]);
      CAPTURE(rate);
      CHECK(Contrast(ground, Named(rate >= 70 ? "hot-ink" : "cold-ink", scheme)) >= 4.5);
    }
  }
}

TEST_CASE("--plot: an SVG file that stands alone, whatever the names are") {
  Results results = MadeUpResults();
  CHECK_THROWS_WITH(PlotFiles(results), Contains("--plot") && Contains("retention"));
  for (const std::string& text : HostileTexts()) {
    results = HostileResults(text);
    for (const std::string method : {"none", "good", "near", "poor"}) {
      Record kept = MadeUpRecord(method == "none" ? method : text + method, "none", "retention",
                                 MadeUpRate(120, 90));
      kept.traits = {"fraction", true, 0, 1, "retention", {"near"}};
      results.records.push_back(kept);
    }
    const std::string svg = PlotFiles(results).at("");
    CHECK(svg.find("<svg xmlns=\"http://www.w3.org/2000/svg\"") == 0);
    CHECK(svg.substr(svg.size() - 7) == "</svg>\n");
    CHECK_THAT(svg, Contains("target rate") && !Contains("var(--"));
    CHECK_THAT(svg, !Contains("<script") && !Contains("<img") && !Contains("<svg onload"));
    CHECK(Count(svg, "<g") == Count(svg, "</g>"));
    CHECK(Count(svg, "<text") == Count(svg, "</text>"));
  }
}

}  // namespace excise
