// The figure of filters on finished pictures: what passes against what is blocked in vain.
#pragma once

#include <string>

#include "experiments/page/looks.h"
#include "experiments/tables/table_view.h"

namespace excise {

// HTML: for each record of filter_auroc the curve of every row with a filter, false negatives
// against false positives, as its parts roc_* have it; the mark is where the filter's own threshold
// stands, by filter_fnr and filter_fpr of the same labels. "" where no row has a filter.
std::string RocFigures(const TableView& view, const Looks& looks);

}  // namespace excise
