#include "experiments/results/read_results.h"

#include <catch2/catch.hpp>
#include <functional>

#include "core/error.h"
#include "core/files.h"
#include "core/read_file.h"
#include "tests/made_up_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

Json MadeUp() { return ResultsToJson(MadeUpResults()); }

// What the reader says to made-up results after `change`.
std::string Said(const std::function<void(Json&)>& change) {
  Json json = MadeUp();
  change(json);
  try {
    ResultsFromJson(json, "made.json");
  } catch (const UsageError&) {
    return "a UsageError: the command line is not to blame";
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

Row MadeUpRow() {
  Row row;
  row.method = "uce";
  row.subject = "poodle";
  row.attack = row.outcome = "none";
  row.group = "target";
  row.root_id = row.prompt_id = "set@0/1";
  row.truncated = true;
  row.detected = {{"filter", 0.25}};
  return row;
}

}  // namespace

TEST_CASE("every committed results file and its rows are read back byte for byte") {
  const std::filesystem::path results =
      RepoFile("results/table1/table1.json").parent_path().parent_path();
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(results)) {
    const std::filesystem::path file = entry.path();
    const std::string folder = file.parent_path().filename().string();
    if (file.extension() != ".json" || folder.rfind("table", 0) != 0) continue;
    if (file.parent_path().parent_path() != results) continue;
    INFO(file.string());
    const Results read = LoadResults(file);
    CHECK(ResultsToJson(read).dump(1) + "\n" == ReadFile(file));
    std::filesystem::path rows = file;
    rows.replace_extension(".rows.jsonl");
    std::string text;
    for (const Row& row : read.rows) text += CanonicalJson(RowToJson(row)) + "\n";
    CHECK(text == ReadFile(rows));
    ++files;
  }
  CHECK(files >= 7);
}

TEST_CASE("the committed comparisons follow from the committed samples") {
  for (const char* name : {"table1/table1_full", "table2/table2"}) {
    const Json json = ReadJsonFile(RepoFile(fmt::format("results/{}.json", name)));
    Json derived = Json::array();
    for (const Comparison& c : CompareAll(ResultsFromJson(json).records)) {
      derived.push_back(ComparisonToJson(c));
    }
    INFO(name);
    CHECK(derived == json["comparisons"]);
  }
}

TEST_CASE("what a run does not write is refused with its place") {
  CHECK(Said([](Json&) {}).empty());
  CHECK_THAT(Said([](Json& r) { r["schema"] = 0; }),
             Contains("made.json") && Contains("/schema is 0, and this version reads 2") &&
                 Contains("run the experiment again"));
  CHECK_THAT(Said([](Json& r) { r.erase("comparisons"); }), Contains("/comparisons is missing"));
  CHECK_THAT(Said([](Json& r) { r["more"] = 1; }), Contains("/more is unknown"));
  CHECK_THAT(Said([](Json& r) { r["records"] = 3; }), Contains("/records is no list"));
  CHECK_THAT(Said([](Json& r) { r["records"][3] = 3; }), Contains("/records/3/method is missing"));
  CHECK_THAT(Said([](Json& r) { r["records"][3].erase("unit"); }),
             Contains("/records/3/unit is missing"));
  CHECK_THAT(Said([](Json& r) { r["records"][3]["unit"] = 3; }),
             Contains("/records/3/unit is of another type"));
  CHECK_THAT(Said([](Json& r) { r["records"][3]["more"] = 3; }), Contains("/records/3/more"));
  CHECK_THAT(Said([](Json& r) { r["records"][3].erase("value"); }),
             Contains("/records/3/value") && Contains("'value'"));
  CHECK_THAT(Said([](Json& r) { r["records"][3]["value"] = true; }), Contains("/records/3/value"));
  CHECK_THAT(Said([](Json& r) { r["records"][3]["n"] = 1.5; }), Contains("/records/3/n"));
  // A number where none is told, samples where none are kept.
  CHECK_THAT(Said([](Json& r) { r["records"][3]["status"] = "error"; }), Contains("/records/3/"));
  CHECK_THAT(Said([](Json& r) { r["records"][3]["per_sample"] = Json::array({1}); }),
             Contains("/records/3/per_sample"));
  CHECK_THAT(Said([](Json& r) { r["records"][8].erase("sample_ids"); }),
             Contains("/records/8/sample_ids"));
  CHECK_THAT(Said([](Json& r) { r["records"][8]["sample_ids"].erase(0); }),
             Contains("/records/8/sample_ids"));
  CHECK_THAT(Said([](Json& r) { r["records"][3]["metric"] = "asrr"; }),
             Contains("/records/3/metric is 'asrr'") && Contains("Did you mean 'asr'"));
  CHECK_THAT(Said([](Json& r) { r["comparisons"][0]["ci95"] = Json::array({1}); }),
             Contains("/comparisons/0/ci95"));
  CHECK_THAT(Said([](Json& r) { r["comparisons"][0]["p_holm"] = 0.5; }),
             Contains("/comparisons/0/p_holm: an earlier version") && Contains("Run the table"));
  CHECK_THAT(Said([](Json& r) { r["comparisons"][0].erase("p"); }),
             Contains("/comparisons/0/p is missing"));
}

TEST_CASE("only the plug-in knows how a metric is printed") {
  Results results = MadeUpResults();
  results.records[0].metric_params = {{"plugin", "asr"}};
  results.records[0].metric = "mine";
  const Results read = ResultsFromJson(ResultsToJson(results));
  CHECK(read.records[0].traits.sample_groups == std::vector<std::string>{"target"});
  CHECK(read.records[0].traits.unit == "fraction");
}

TEST_CASE("rows are read back as strictly, and their line is named") {
  const Json row = RowToJson(MadeUpRow());
  CHECK(RowToJson(RowFromJson(row)) == row);
  Json more = row;
  more["more"] = 1;
  CHECK_THROWS_WITH(RowFromJson(more), Contains("/more"));
  const std::filesystem::path file = TestFolder("read_results") / "made.json";
  WriteFileAtomically(file, MadeUp().dump());
  CHECK(LoadResults(file).rows.empty());  // none lie beside it
  std::filesystem::path rows = file;
  rows.replace_extension(".rows.jsonl");
  WriteFileAtomically(rows, row.dump() + "\n");
  CHECK(LoadResults(file).rows.size() == 1);
  WriteFileAtomically(rows, more.dump() + "\n");
  CHECK_THROWS_WITH(LoadResults(file), Contains("made.rows.jsonl, line 1") && Contains("/more"));
}

TEST_CASE("a file of an older schema is refused with what to do") {
  const std::filesystem::path file = TestFolder("old_results") / "old.json";
  Json old = MadeUp();
  old["schema"] = 0;
  WriteFileAtomically(file, old.dump());
  CHECK_THROWS_WITH(LoadResults(file), Contains("old.json") && Contains("/schema is 0") &&
                                           Contains("Run the experiment again"));
}

}  // namespace excise
