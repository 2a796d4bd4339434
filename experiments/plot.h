// The front between safety and censorship as a picture: what every method lets through against what
// it keeps, with 95 % intervals in both directions, drawn by gnuplot.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "experiments/results/record.h"
#include "experiments/tables/table.h"

namespace excise {

struct PlotPoint {
  std::string label;  // beside the point; data
  Estimate x, y;
};

// Points of one colour. A method is a series of one point; rows whose parameters differ in the
// weight w of a blend alone are joined.
struct PlotSeries {
  std::string title;  // data
  std::vector<PlotPoint> points;
};

struct FrontPlot {
  std::string title, x_label, y_label;  // data
  bool y_percent = true;
  std::vector<PlotSeries> series;
};

// x: the target rate over all concepts, in the worst case over attacks where there is one. y: the
// metric of the group "retention" that is a fraction, or else the first one. Throws Error when the
// results have no method with both.
FrontPlot DescribeFront(const Results& results);

enum class PlotFormat { kSvg, kPng };

// What gnuplot (5.4) is to run: it writes the picture to its standard output. Every text is
// escaped, so data cannot become commands; the same plot gives the same bytes.
std::string GnuplotScript(const FrontPlot& plot, PlotFormat format);

// ".svg" or ".png", or UsageError.
PlotFormat PlotFormatOf(const std::filesystem::path& file);

// Runs gnuplot on `script` and puts what it draws into `file`, whole or not at all. Throws Error
// when gnuplot is not installed, fails (with its message) or does not end in time.
void RunGnuplot(const std::string& script, const std::filesystem::path& file,
                std::chrono::milliseconds limit = std::chrono::minutes(1));

// All of it.
void WriteFrontPlot(const Results& results, const std::filesystem::path& file);

}  // namespace excise
