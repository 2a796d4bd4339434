#include "pretraining/bars/bars_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/text.h"

namespace excise {
namespace {

using Row = std::vector<std::string>;

std::string Percent(double fraction) { return fmt::format("{:.1f} %", 100 * fraction); }

std::string ValueText(const Json& bar, double value) {
  const std::string unit = bar["unit"];
  if (unit == "kappa") return fmt::format("{:.3f}", value);
  if (unit == "count") return fmt::format("{:.0f} of {}", value, bar["n"].get<int64_t>());
  if (unit == "difference") return fmt::format("{:+.1f} points", 100 * value);
  return Percent(value);
}

std::string IntervalText(const Json& bar) {
  const double low = bar["ci95"][0], high = bar["ci95"][1];
  const std::string unit = bar["unit"];
  if (unit == "kappa") return fmt::format("[{:.3f}, {:.3f}]", low, high);
  if (unit == "count") return fmt::format("[{:.0f}, {:.0f}]", low, high);
  return fmt::format("[{:.1f}, {:.1f}]", 100 * low, 100 * high);
}

std::string RequiredText(const Json& bar) {
  const std::string relation = bar["relation"], unit = bar["unit"];
  const double required = bar["required"];
  const std::string sign = relation == "at_least" ? "≥" : relation == "at_most" ? "≤" : "±";
  if (unit == "kappa") return fmt::format("{} {:.2f}", sign, required);
  if (unit == "count") return fmt::format("{} {:.0f}", sign, required);
  if (unit == "difference") return fmt::format("{} {:.0f} points", sign, 100 * required);
  return fmt::format("{} {:.0f} %", sign, 100 * required);
}

std::string VerdictText(const Json& bar) {
  const std::string status = bar["status"], unit = bar["unit"];
  if (status == "not_there") return "not there";
  if (status == "met") return bar["interval_meets"] ? "met" : "met, interval does not";
  const double missing = bar["short_by"];
  if (unit == "kappa") return fmt::format("missed by {:.3f}", missing);
  if (unit == "count") return fmt::format("missed by {:.0f}", missing);
  return fmt::format("missed by {:.1f} points", 100 * missing);
}

std::string Layout(const std::vector<Row>& rows, bool markdown) {
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], TextWidth(row[c]));
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line = markdown ? "|" : "";
    for (size_t c = 0; c < rows[r].size(); ++c) {
      if (markdown) {
        line += fmt::format(" {} |", rows[r][c]);
      } else {
        line += rows[r][c] + std::string(widths[c] - TextWidth(rows[r][c]) + 2, ' ');
      }
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    if (r > 0) continue;
    if (markdown) {
      text += "|";
      for (size_t c = 0; c < widths.size(); ++c) text += "---|";
    } else {
      for (size_t c = 0; c < widths.size(); ++c) {
        text += (c == 0 ? "" : "  ") + std::string(widths[c], '-');
      }
    }
    text += "\n";
  }
  return text;
}

// A table {row: {column: tally}}; the columns are those that any row has.
std::string RenderTally(const Json& table, const std::string& corner, bool markdown) {
  std::vector<std::string> columns;
  for (const auto& [name, row] : table.items()) {
    for (const auto& [column, tally] : row.items()) {
      if (!IsOneOf(column, columns)) {
        columns.push_back(column);
      }
    }
  }
  std::sort(columns.begin(), columns.end());
  Row head = {corner};
  for (std::string column : columns) {
    std::replace(column.begin(), column.end(), '_', ' ');
    head.push_back(column);
  }
  std::vector<Row> rows = {head};
  for (const auto& [name, row] : table.items()) {
    Row cells = {name};
    for (const std::string& column : columns) {
      const bool there = row.contains(column) && !row[column]["value"].is_null();
      cells.push_back(there ? fmt::format("{} ({})", Percent(row[column]["value"]),
                                          row[column]["n"].get<int64_t>())
                            : "");
    }
    rows.push_back(cells);
  }
  return Layout(rows, markdown);
}

}  // namespace

std::string RenderBars(const Json& report, bool markdown) {
  std::vector<Row> rows = {
      {"bar", "what", "value", "95 % interval", "n", "required", "verdict", "note"}};
  for (const Json& bar : report["bars"]) {
    const bool there = bar["status"] != "not_there";
    rows.push_back({std::to_string(bar["number"].get<int>()), bar["what"],
                    there ? ValueText(bar, bar["value"]) : "", there ? IntervalText(bar) : "",
                    there ? std::to_string(bar["n"].get<int64_t>()) : "", RequiredText(bar),
                    VerdictText(bar), bar["note"]});
  }
  return Layout(rows, markdown);
}

std::string RenderDetails(const Json& report, bool markdown) {
  const std::vector<std::pair<std::string, std::string>> titles = {
      {"concepts", "By concept"},
      {"classes", "By class"},
      {"styles", "By style"},
      {"garbage", "By kind of garbage"}};
  std::string text;
  for (const auto& [key, title] : titles) {
    if (!report["tables"].contains(key) || report["tables"][key].empty()) continue;
    text += fmt::format("\n{}{}, share (n)\n\n", markdown ? "### " : "", title);
    text += RenderTally(report["tables"][key], key, markdown);
  }
  return text;
}

int CountBars(const Json& report, const std::string& status) {
  int count = 0;
  for (const Json& bar : report["bars"]) count += bar["status"] == status ? 1 : 0;
  return count;
}

}  // namespace excise
