#include "experiments/results/record.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>

#include "core/error.h"
#include "core/json_schema.h"
#include "tests/made_up_results.h"
#include "tests/testdata.h"

namespace excise {

TEST_CASE("results fit their schema, and the schema sees faults") {
  const Json schema = ReadJsonFile(RepoFile("results/schema.json"));
  Results results = MadeUpResults();
  results.records[1].status = "error";
  results.records[1].reason = "it broke";
  const Json good = ResultsToJson(results);
  CHECK(SchemaProblems(good, schema) == std::vector<std::string>{});
  const auto faulty = [&](const std::string& pointer, const Json& value) {
    Json json = good;
    json[Json::json_pointer(pointer)] = value;
    INFO(pointer);
    CHECK(SchemaProblems(json, schema).size() == 1);
  };
  faulty("/schema", 1);
  faulty("/surprise", 1);
  faulty("/records/0/value", "0.5");
  faulty("/records/0/ci95", {0.1});
  faulty("/records/0/status", "fine");
  faulty("/records/0/protocol/weights_sha", "abc");
  faulty("/records/0/stderr", -1);
  Json valueless = good;
  valueless["records"][1]["status"] = "ok";
  CHECK(SchemaProblems(valueless, schema).size() == 5);  // value, stderr, ci95, n, parts
}

TEST_CASE("a score survives its JSON, and only records over all concepts keep samples") {
  const Score score = MadeUpRate(5, 2);
  const Score back = ScoreFromJson(ScoreToJson(score));
  CHECK(back.value == score.value);
  CHECK(back.low == score.low);
  CHECK(back.per_sample == score.per_sample);
  CHECK(back.sample_ids == score.sample_ids);
  CHECK(RecordToJson(MadeUpRecord("a", "b", "c", score)).contains("per_sample"));
  CHECK_FALSE(RecordToJson(MadeUpRecord("a", "b", "c", score, "poodle")).contains("per_sample"));
}

TEST_CASE("samples without ids are named by their place, and ids that do not fit are refused") {
  Json json = ScoreToJson(MadeUpRate(3, 1));
  json["sample_ids"].erase(2);
  CHECK_THROWS_AS(ScoreFromJson(json), Error);
  json.erase("sample_ids");
  const Score score = ScoreFromJson(json);
  CHECK(score.sample_ids.size() == 3);
  CHECK(std::is_sorted(score.sample_ids.begin(), score.sample_ids.end()));
}

TEST_CASE("what is missing survives a score's JSON, is counted in records, and ends a run with 1") {
  Results results = MadeUpResults();
  CHECK(ProblemsOf(results).empty());
  Record& record = results.records[1];
  record.score.missing = {{"poodle/target/set@0/120#0", "junk.png: no PNG"}};
  CHECK(ScoreFromJson(ScoreToJson(record.score)).missing == record.score.missing);
  CHECK_FALSE(RecordToJson(record).contains("missing"));
  record.denominators["missing"] = 1;
  record.reason = "1 is missing";
  const Json schema = ReadJsonFile(RepoFile("results/schema.json"));
  CHECK(SchemaProblems(ResultsToJson(results), schema) == std::vector<std::string>{});
  CHECK_THAT(ProblemsOf(results), Catch::Contains("1 of 16 records lack pictures"));
  results.records[2].status = "error";
  results.records[3].status = kUnfitJudge;
  results.records[3].reason = "the judge sees nothing";
  CHECK(SchemaProblems(ResultsToJson(results), schema) == std::vector<std::string>{});
  CHECK_THAT(ProblemsOf(results),
             Catch::Contains("1 of 16 records have no number") &&
                 Catch::Contains("No removal is reported where the judge sees"));
}

TEST_CASE("results are written as three files") {
  const std::filesystem::path file = TestFolder("results") / "deep" / "table.json";
  Results results = MadeUpResults();
  results.rows.resize(2);
  results.rows[1].prompt = "a \"line\"\nbreak";
  WriteResults(results, {{".md", "the table\n"}}, file);
  CHECK(ReadJsonFile(file) == ResultsToJson(results));
  std::ifstream rows(file.parent_path() / "table.rows.jsonl");
  int count = 0;
  for (std::string line; std::getline(rows, line); ++count) CHECK(Json::parse(line).is_object());
  CHECK(count == 2);
  CHECK(std::filesystem::file_size(file.parent_path() / "table.md") == 10);
}

}  // namespace excise
