// What a page says first: who removes most, and at what price.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/tables/table.h"

namespace excise {

// Where the headline reads what is kept: the first metric of retention that is a rate, of near
// neighbours where it tells them apart.
struct KeptRate {
  const Record* metric = nullptr;  // one of its records
  std::string part;                // a group of neighbours, or "": all of them

  std::string Name() const { return part.empty() ? metric->metric : part; }
};
std::optional<KeptRate> FindKeptRate(const TableView& view);

// The columns of a metric: its attacks, and the worst case where that is of more than one.
std::vector<std::string> AttackColumns(const TableView& view, const std::string& metric);
// The attack under which the headline is told: the last of these columns.
std::string HeadlineAttack(const TableView& view, const Record& headline);

// Whether a page may tell a record's rate: no failure, no judge that does not fit, nothing missing.
bool IsWhole(const Record* record);

// The method with the lowest target rate, what it keeps, and the same of the reference rows. Only
// whole records are told. `headline` may be null: then there is nothing to say.
Text Headline(const TableView& view, const Record* headline);

}  // namespace excise
