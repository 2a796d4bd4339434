// A row that is added changes no other row's numbers, and no other row's mark but in a column that
// it leads: on a committed table, of which each ranked row in turn is the one that was added.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <tuple>

#include "core/json.h"
#include "core/read_file.h"
#include "core/text.h"
#include "experiments/results/comparisons.h"
#include "experiments/results/read_results.h"
#include "experiments/tables/table.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Mark = TableView::Mark;

Results Full() {
  Results results =
      ResultsFromJson(Json::parse(ReadFile(RepoFile("results/table1/table1_full.json"))));
  // What only plug-ins know: the groups that a metric has columns for.
  for (Record& record : results.records) {
    record.traits.sample_groups.clear();
    for (const char* group : {"near", "far", "lexical"}) {
      if (record.score.parts.count(std::string(group) + "_n") != 0) {
        record.traits.sample_groups.emplace_back(group);
      }
    }
  }
  return results;
}

// Cells by table, column and row.
using Cells = std::map<std::tuple<std::string, std::string, std::string>, TableCell>;
Cells CellsOf(Results results) {
  results.comparisons = CompareAll(results.records);
  Cells cells;
  for (const Table& table : DescribeTable(results).tables) {
    if (table.first.header != "method") continue;
    for (const TableColumn& column : table.columns) {
      for (size_t row = 0; row < column.cells.size(); ++row) {
        cells[{table.name, column.header, table.first.cells[row].value}] = column.cells[row];
      }
    }
  }
  return cells;
}

Cells CellsWithout(Results results, const std::string& method) {
  auto& records = results.records;
  records.erase(std::remove_if(records.begin(), records.end(),
                               [&](const Record& record) { return record.method == method; }),
                records.end());
  return CellsOf(results);
}

}  // namespace

TEST_CASE("a row that is added changes no other row, but marks of columns that it leads") {
  const Results full = Full();
  const Cells with = CellsOf(full);
  int64_t compared = 0, marked = 0, led_and_changed = 0;
  for (const char* added :
       {"esd", "espresso", "latent_blend", "negative_prompt", "rece", "safe_clip", "uce"}) {
    for (const auto& [name, before] : CellsWithout(full, added)) {
      const auto& [table, column, row] = name;
      const auto now = with.find(name);
      if (now == with.end())
        continue;  // a column that says the same in every row is a line of text
      INFO(added << " added: " << table << ", " << column << ", " << row);
      CHECK(now->second.value == before.value);
      CHECK(now->second.low == before.low);
      CHECK(now->second.high == before.high);
      CHECK(now->second.spread == before.spread);
      ++compared;
      const auto own = with.find({table, column, added});
      REQUIRE(own != with.end());
      if (own->second.mark == Mark::kBest) {
        led_and_changed += now->second.mark != before.mark;
        continue;
      }
      CHECK(now->second.mark == before.mark);
      marked += before.mark != Mark::kNone;
    }
  }
  CHECK(compared > 400);
  CHECK(marked > 60);
  CHECK(led_and_changed > 10);  // so marks can be seen to change
}

}  // namespace excise
