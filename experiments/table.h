// The Markdown table of a run, which is also a text for a terminal: at most 140 columns wide.
#pragma once

#include <string>
#include <vector>

#include "experiments/record.h"

namespace excise {

inline constexpr size_t kTableWidth = 140;

std::string RenderTable(const Results& results);

// One column of a Markdown table; `cells` as many as the rows.
struct TableColumn {
  std::string header;
  std::vector<std::string> cells;
  bool left = false;
};
// Aligned text. What does not fit into kTableWidth goes on in a further table that repeats `first`.
std::string RenderColumns(const TableColumn& first, const std::vector<TableColumn>& columns);

}  // namespace excise
