// Figures of methods that take part with several values of one parameter: what is drawn when the
// target is asked for, against that value.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "experiments/page/svg.h"
#include "experiments/tables/table_view.h"

namespace excise {

// Rows of one plug-in that differ in one number alone.
struct DialFamily {
  std::string plugin, field;
  // What sets this family apart from others of the plug-in and field, "tau_gc 0.2"; "" for nothing.
  std::string panel;
  std::vector<std::pair<double, std::string>> entries;  // value and row, four or more, rising
};
// `metric`: whose records over all concepts without attack are read.
std::vector<DialFamily> DialFamilies(const TableView& view, const std::string& metric);

// HTML: the shares of outcomes and how much of the target's pictures is kept, by the value; ""
// where no family takes part.
std::string DialFigures(const TableView& view, const std::string& metric);

// The same as one drawing a plug-in and field, by "<plug-in>_<field>".
std::map<std::string, Drawing> DialDrawings(const TableView& view, const std::string& metric);

}  // namespace excise
