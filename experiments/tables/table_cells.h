// Cells of a table, and why one has no number.
#pragma once

#include <string>

#include "experiments/tables/table.h"

namespace excise {

std::string Percent(double fraction, int decimals = 0);

// The number with its interval; none where it cannot be estimated, and of what is zero by
// construction (how far the unmodified model is from itself). An interval has as many decimals as
// it needs not to read as zero; one that would need too many is what rounding left.
TableCell Number(const Record& record, const Estimate& estimate);
TableCell Words(std::string words);

// Why a cell has no number or lacks pictures, so that cells with one reason share a footnote.
std::string WhyNot(const Record& record);

// What became of pictures that a filter blocked, where the metric does not measure that; or "".
std::string BlockedNote(const Record& record);

// The same words in every row, which are worth a line of text and no column.
bool IsConstant(const TableColumn& column);

// "15-33", with `dash` between the ends; "-3 to 9", where a dash would be read as a sign.
std::string IntervalText(const TableCell& cell, const char* dash = "-");

}  // namespace excise
