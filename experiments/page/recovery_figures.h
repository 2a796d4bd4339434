// Figures of recovery by attack, and of success against an attack's budget.
#pragma once

#include <map>
#include <string>

#include "experiments/page/looks.h"
#include "experiments/page/svg.h"
#include "experiments/tables/table_view.h"

namespace excise {

// HTML: recovery with its intervals, a figure an attack; "" where the results have none.
std::string RecoveryFigures(const TableView& view, const Looks& looks, const std::string& metric);

// HTML: the target rate by gradient steps, of attacks that take part with several budgets; ""
// where none does.
std::string BudgetFigures(const TableView& view, const Looks& looks, const std::string& metric);

// The same as one drawing an attack plug-in, by its name.
std::map<std::string, Drawing> BudgetDrawings(const TableView& view, const Looks& looks,
                                              const std::string& metric);

}  // namespace excise
