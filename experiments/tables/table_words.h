// What is said around a table: its caption, what its tests found, how to read it.
#pragma once

#include <string>
#include <vector>

#include "experiments/tables/table.h"

namespace excise {

// `headline` may be null: then there is less to say.
Text TableCaption(const TableView& view, const Record* headline);
// Findings of the paired tests, what was left out, and the legend.
std::vector<Text> TableRemarks(const TableView& view, const Record* headline);
// What the method knows, a letter each; "-" for nothing.
std::string LettersOfUses(const TableView& view, const std::string& method);

}  // namespace excise
