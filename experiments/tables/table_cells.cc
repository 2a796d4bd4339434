#include "experiments/tables/table_cells.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experiments/results/comparisons.h"
#include "experiments/results/recovery.h"

namespace excise {
namespace {

// What rounds to zero has no sign.
std::string Fixed(double value, int decimals) {
  const std::string text = fmt::format("{:.{}f}", value, decimals);
  return text.find_first_not_of("-0.") == std::string::npos ? fmt::format("{:.{}f}", 0.0, decimals)
                                                            : text;
}

// Shares of a thousand queries are worth a decimal.
int PercentDecimals(const Record& record) { return record.traits.group == "retrieval" ? 1 : 0; }

}  // namespace

std::string Percent(double value, int decimals) { return Fixed(100 * value, decimals); }

TableCell Number(const Record& record, const Estimate& estimate) {
  constexpr int kMostDecimals = 6;
  const bool fraction = record.traits.unit == "fraction";
  const double half = (estimate.high - estimate.low) / 2;
  const auto reads_as_zero = [&](int decimals) {
    return fraction ? Percent(estimate.low, decimals) == Percent(estimate.high, decimals)
                    : Fixed(half, decimals) == Fixed(0, decimals);
  };
  const int usual = fraction ? PercentDecimals(record) : record.traits.decimals;
  int decimals = usual;
  while (estimate.has_interval && decimals < kMostDecimals && reads_as_zero(decimals)) ++decimals;
  const bool shown = estimate.has_interval && !reads_as_zero(decimals);
  if (!shown) decimals = usual;
  TableCell cell;
  cell.value = fraction ? Percent(estimate.value, decimals) : Fixed(estimate.value, decimals);
  if (!shown) return cell;
  if (fraction) {
    cell.low = Percent(estimate.low, decimals);
    cell.high = Percent(estimate.high, decimals);
  } else {
    cell.spread = Fixed(half, decimals);
  }
  return cell;
}

TableCell Words(std::string words) {
  TableCell cell;
  cell.value = std::move(words);
  return cell;
}

std::string WhyNot(const Record& record) {
  if (record.status == "non_adaptive_only") return record.status + ": " + record.reason;
  if (record.reason == kNoPicture) return record.metric + ": " + record.reason;
  if (record.metric == kRecovery) return "recovery: " + record.reason;
  if (record.status == kUnfitJudge) return "no removal is reported: " + record.reason;
  return record.method + ": " + record.reason;
}

std::string BlockedNote(const Record& record) {
  const auto part = record.score.parts.find("blocked");
  if (part == record.score.parts.end() || part->second <= 0) return "";
  const std::string whose = record.metric + " of " + record.method + ": ";
  if (LeavesOutBlocked(record)) {
    const auto blocked = static_cast<int64_t>(part->second);
    return whose + fmt::format(
                       "{} of {} pictures were blocked and are left out, so the value is over "
                       "other pictures than other rows' and is not ranked",
                       blocked, record.score.n + blocked);
  }
  const bool nothing = record.traits.blocked == BlockedPictures::kNothing;
  if (!nothing && record.traits.blocked != BlockedPictures::kReplaced) return "";
  return whose + fmt::format("{} % of the pictures were blocked and count as {}",
                             Percent(part->second),
                             nothing ? "0" : "the picture that is delivered instead");
}

bool IsConstant(const TableColumn& column) {
  const auto same = [&](const TableCell& cell) {
    return cell.value == column.cells.front().value && cell.low.empty() && cell.spread.empty() &&
           cell.note == 0;
  };
  return column.cells.size() > 1 && std::all_of(column.cells.begin(), column.cells.end(), same);
}

std::string IntervalText(const TableCell& cell, const char* dash) {
  return cell.low + (cell.low[0] == '-' ? " to " : dash) + cell.high;
}

}  // namespace excise
