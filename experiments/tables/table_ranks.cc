#include "experiments/tables/table_ranks.h"

#include <fmt/format.h>

#include <set>

#include "core/plural.h"

namespace excise {
namespace {

TableCell Plain(std::string value) {
  TableCell cell;
  cell.value = std::move(value);
  return cell;
}

TableCell WithInterval(double value, const Interval& ci, int decimals) {
  TableCell cell = Plain(fmt::format("{:.{}f}", value, decimals));
  cell.low = fmt::format("{:.{}f}", ci.low, decimals);
  cell.high = fmt::format("{:.{}f}", ci.high, decimals);
  return cell;
}

Table RanksTable(const Ranks& ranks) {
  Table table;
  table.name = "ranks";
  table.title = "Who is first?";
  table.intro.Words(
      "Mean over concepts and runs, %, and mean rank (1 is best, ties share the middle) with its "
      "95 % interval over concepts.");
  table.first = {"method", 0, true, {}};
  for (const std::string& method : ranks.methods) table.first.cells.push_back(Plain(method));
  for (const MetricRanks& metric : ranks.metrics) {
    TableColumn value{metric.metric, 1, false, {}}, rank{metric.metric + " rank", -1, false, {}};
    for (const MethodRank& one : metric.methods) {
      value.cells.push_back(Plain(fmt::format("{:.0f}", 100 * one.value)));
      rank.cells.push_back(WithInterval(one.rank, one.ci, 1));
    }
    table.columns.push_back(std::move(value));
    table.columns.push_back(std::move(rank));
  }
  return table;
}

Table StabilityTable(const Ranks& ranks) {
  Table table;
  table.name = "stability";
  table.title = "Does the ranking hold?";
  table.intro.Words(
      "Kendall's tau-b between rankings of the methods, on average over pairs of them: of two "
      "concepts in one run, of two runs with other erase seeds, of two with other guidance scales "
      "(runs by their means over concepts). 1: the same order, 0: unrelated, -1: reversed; 95 % "
      "intervals by bootstrap over concepts. -: there are no two to compare.");
  table.first = {"ranked by", 0, true, {}};
  std::vector<TableColumn> columns = {{"over concepts", 1, false, {}},
                                      {"over erase seeds", 1, false, {}},
                                      {"over guidance", 1, false, {}}};
  for (const MetricRanks& metric : ranks.metrics) {
    table.first.cells.push_back(Plain(metric.metric));
    const Agreement* agreements[] = {&metric.over_concepts, &metric.over_seeds,
                                     &metric.over_guidance};
    for (size_t i = 0; i < columns.size(); ++i) {
      const Agreement& one = *agreements[i];
      // Ends may be negative: a hyphen between them would be read as one more sign.
      columns[i].cells.push_back(
          Plain(one.pairs == 0
                    ? "-"
                    : fmt::format("{:.2f} [{:.2f}, {:.2f}]", one.tau, one.ci.low, one.ci.high)));
    }
  }
  table.columns = std::move(columns);
  return table;
}

}  // namespace

Document DescribeRanks(const Ranks& ranks) {
  std::set<int64_t> seeds;
  std::set<double> scales;
  for (const RankedRun& run : ranks.runs) {
    seeds.insert(run.erase_seed);
    scales.insert(run.guidance);
  }
  Document document;
  document.title = "Ranks of removal methods";
  document.profile = "several runs";
  document.caption.Words(fmt::format("{} by {} in {}: ", Plural(ranks.methods.size(), "method"),
                                     Plural(ranks.concepts.size(), "concept"),
                                     Plural(ranks.runs.size(), "run")));
  document.caption.Words(fmt::format("{}, {}. Removal: 1 - asr, attack ",
                                     Plural(seeds.size(), "erase seed"),
                                     Plural(scales.size(), "guidance scale")));
  document.caption.Data(ranks.attack).Words(". Concepts: ").List(ranks.concepts, "none").Words(".");
  document.tables = {RanksTable(ranks), StabilityTable(ranks)};
  for (const auto& [name, reason] : ranks.left_out) {
    document.remarks.push_back(
        Text("Left out: ").Data(name).Words(", for ").Data(reason).Words("."));
  }
  return document;
}

}  // namespace excise
