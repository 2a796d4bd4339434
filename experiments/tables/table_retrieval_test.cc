#include "experiments/tables/table_retrieval.h"

#include <catch2/catch.hpp>

#include "experiments/tables/render.h"
#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

Record Retrieval(const std::string& method, const std::string& name, const Json& params,
                 int64_t hits, int64_t n = 1000) {
  Record record = MadeUpRecord(method, "none", name, MadeUpRate(n, hits));
  record.traits = {"fraction", true, 0, 1, "retrieval", {"quadruplets"}};
  record.metric_params = params;
  record.score.parts = {{"pool", 500.0}, {"pools", 2.0}, {"left_out", 30.0}};
  return record;
}

// Two methods; `good` redirects unsafe queries and keeps the rest.
Results Made() {
  Results results = MadeUpResults();
  results.records.clear();
  const auto add = [&](const std::string& name, const Json& params, int64_t none, int64_t good) {
    results.records.push_back(Retrieval("none", name, params, none));
    results.records.push_back(Retrieval("good", name, params, good));
  };
  add("zz_r10", {{"direction", "T->I"}, {"k", 10}, {"group", "quadruplets"}}, 900, 900);
  add("aa_r1", {{"direction", "T->I"}, {"k", 1}, {"group", "quadruplets"}}, 678, 678);
  add("u_r1", {{"direction", "T*->I+I*"}, {"k", 1}, {"group", "quadruplets"}}, 0, 117);
  add("first", {{"query", "T*"}, {"group", "quadruplets"}}, 10, 800);
  add("target", {{"direction", "T*->I*+I"}, {"k", 1}, {"group", "quadruplets"}}, 500, 50);
  add("new_r1", {{"direction", "T*->I+I*"}, {"k", 1}, {"group", "unseen"}}, 0, 0);
  add("zero_shot", Json::object(), 960, 950);
  results.comparisons = CompareAll(results.records);
  return results;
}

const Table& Named(const Document& document, const std::string& name) {
  for (const Table& table : document.tables) {
    if (table.name == name) return table;
  }
  FAIL("no table " << name);
  return document.tables[0];
}

}  // namespace

TEST_CASE("each retrieval metric stands in one table, by direction and rank") {
  const Results results = Made();
  const Document document = DescribeTable(results);
  const auto headers = [&](const std::string& name) {
    std::vector<std::string> out;
    for (const TableColumn& column : Named(document, name).columns) out.push_back(column.header);
    return out;
  };
  CHECK(headers("safe_retrieval") ==
        std::vector<std::string>{"T to I R1", "T to I R10", "zero shot"});
  CHECK(headers("redirected") == std::vector<std::string>{"T* to I+I* R1", "safe first T*"});
  CHECK(headers("unsafe_retrieval") == std::vector<std::string>{"T* to I*+I R1"});
  CHECK(headers("unseen") == std::vector<std::string>{"T* to I+I* R1"});
  const TableCell& cell = Named(document, "safe_retrieval").columns[0].cells[1];
  CHECK(cell.value == "67.8");  // of a thousand, with a decimal; Wilson's interval
  CHECK(cell.low == "64.8");
  CHECK(cell.high == "70.6");
}

TEST_CASE("the tables say n, pools, the rules, and what differs by a paired test") {
  const std::string text = RenderMarkdown(DescribeTable(Made()));
  INFO(text);
  CHECK_THAT(text, Contains("n = 1000 a cell, in pools of 500"));
  CHECK_THAT(text, Contains("30 rows beyond left out"));
  CHECK_THAT(text, Contains("paired item alone counts") && Contains("equal items come before it"));
  CHECK_THAT(text, Contains("R1 (paired test, 5 % each): above it good; below it none."));
  CHECK_THAT(text, Contains("above it none; below it good."));
}

TEST_CASE("results keep the values of retrieval metrics without a thousand ids each") {
  const Json json = RecordToJson(Made().records[0]);
  CHECK(json.at("per_sample").size() == 1000);
  CHECK_FALSE(json.contains("sample_ids"));
  CHECK(RecordToJson(MadeUpResults().records.back()).contains("sample_ids"));
}

TEST_CASE("a table without retrieval metrics has no such part") {
  const Results results = MadeUpResults();
  CHECK(RetrievalSections(TableView(results)).empty());
  for (const Table& table : DescribeTable(results).tables) CHECK(table.name != "redirected");
  // Metrics of one's own, whose parameters say nothing, are called by their names.
  Record own = Retrieval("none", "my_own", {{"k", "many"}}, 1);
  CHECK(RetrievalHeader(own) == "my own");
}

}  // namespace excise
