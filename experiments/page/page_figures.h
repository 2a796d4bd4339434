// Which figures a page shows of results, and what is said around them. Values, intervals and tests
// are those of the records and comparisons; nothing is computed anew.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "experiments/page/exhibits.h"
#include "experiments/page/looks.h"
#include "experiments/page/svg.h"
#include "experiments/tables/table.h"

namespace excise {

class PageFigures {
 public:
  // All of these must outlive it.
  PageFigures(const TableView& view, const Looks& looks, const Exhibits& exhibits);

  // HTML; "" where the results have nothing to draw.
  std::string All() const;

 private:
  std::string AtAGlance() const;
  Drawing ByAttack() const;
  std::string Outcomes() const;
  std::string ByConcept() const;
  std::string Differences() const;
  std::string Difference(const Record& metric, const std::string& part, const std::string& attack,
                         const std::string& title) const;
  std::string Intervals() const;
  std::string Budget() const;
  std::string Spent() const;
  std::string Fronts() const;
  bool HasAllPictures(const std::string& method) const;

  const TableView& view_;
  const Looks& looks_;
  const Exhibits& exhibits_;
  const Record* headline_;
  std::string attack_;  // of the headline
};

// The figures of --plot=FILE.svg as SVG files, by what is added to FILE: "" for the target rate, in
// the worst case where attacks take part, against the share of near neighbours kept;
// "_<plug-in>" for success against budget, of an attack that takes part with several;
// "_<plug-in>_<field>" for outcomes against a number, of a method that takes part with four values
// of it or more. Throws Error where there is none of these.
std::map<std::string, std::string> PlotFiles(const Results& results);

// "a/b.svg" and "_pez" -> "a/b_pez.svg".
std::filesystem::path PlotPath(const std::filesystem::path& file, const std::string& added);

}  // namespace excise
