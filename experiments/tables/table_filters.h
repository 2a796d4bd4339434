// The part of a table that is about filters on finished pictures.
#pragma once

#include <string>
#include <vector>

#include "experiments/tables/table.h"
#include "experiments/tables/table_view.h"

namespace excise {

struct FilterColumn {
  const Record* metric = nullptr;
  std::string part, attack, header;
};

struct FilterSection {
  std::string name, title, intro;
  std::vector<FilterColumn> columns;
};

// What passes filters, by attack: the metrics of group "filter" that read target pictures alone and
// are rates; and what beats them, where a metric has the part "beats". What else they do, without
// attack: the other ones. Beside them CLIP accuracy by attack, of filters and edited models alike.
// Metrics without a single value (no row has a filter) have no columns, and
// sections without columns are left out.
std::vector<FilterSection> FilterSections(const TableView& view);

}  // namespace excise
