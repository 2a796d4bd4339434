// The columns of recovery (experiments/results/recovery.h) and of budgets, and what is said of
// them.
#pragma once

#include <string>
#include <vector>

#include "experiments/tables/table.h"
#include "experiments/tables/table_view.h"

namespace excise {

// The attacks that have columns, the worst case last. Of more than three entries of one plug-in
// that differ in their budget the largest stands for all: a figure and the records have the others.
std::vector<std::string> ShownAttacks(const TableView& view, const std::string& metric);

// Those of them under which some row has a recovery. None: the table shows plain rates alone.
std::vector<std::string> RecoveryAttacks(const TableView& view, const std::string& metric);

// Whether the attack brings back significantly more than the floor shows, by the record's own test
// at 5 %.
bool IsAboveFloor(const Record& record);

// What the columns say, and which floors stand behind them.
Text RecoveryIntro(const TableView& view, const std::string& metric);

// " Budgets, at most (spent): pez 200 (200) gradient steps a prompt." Nothing where none is known.
void AddBudgets(const TableView& view, const std::string& metric, Text* text);

}  // namespace excise
