// Results in the formats that --format names.
#pragma once

#include <string>
#include <vector>

#include "experiments/page/exhibits.h"
#include "experiments/tables/table.h"

namespace excise {

inline const std::vector<std::string>& FormatNames() {
  static const std::vector<std::string> names = {"text", "md", "tex", "html", "csv", "json"};
  return names;
}

// `format`: one of FormatNames. `exhibits` are for the page alone; text is as wide as the terminal.
std::string RenderAs(const std::string& format, const Document& document, const Results& results,
                     const Exhibits& exhibits);

// To stdout: text escaped for a terminal, the others byte for byte.
void PrintAs(const std::string& format, const std::string& rendered);

}  // namespace excise
