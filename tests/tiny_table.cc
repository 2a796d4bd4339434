#include "tests/tiny_table.h"

#include <fstream>

#include "core/json_schema.h"
#include "tests/testdata.h"

namespace excise {

namespace fs = std::filesystem;

fs::path EmojiFolder() { return RepoFile("models/emoji/model_index.json").parent_path(); }

fs::path Cache() {
  static const fs::path cache = TestFolder("doors_cache");
  return cache;
}

fs::path Desk() {
  static const fs::path desk = TestFolder("doors_desk");
  return desk;
}

ProcessResult RunTiny(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {RepoFile("tests/tiny.json").string(), "--workers=2",
                                       "--models=" + EmojiFolder().parent_path().string(),
                                       "--cache=" + Cache().string()});
  return RunProcess("EXCISE_TABLE", arguments, Desk());
}

const Json& Table::Record(const std::string& name) const {
  for (const Json& record : results.at("records")) {
    const auto text = [&](const char* key) { return record.at(key).get<std::string>(); };
    if (text("method") + "/" + text("concept") + "/" + text("attack") + "/" + text("metric") ==
        name) {
      return record;
    }
  }
  FAIL("no record " << name);
  return results;
}

std::map<std::string, std::string> Table::Outcomes(const std::string& method,
                                                   const std::string& attack) const {
  std::map<std::string, std::string> out;
  for (const Json& row : rows) {
    if (row.at("method") != method || row.at("attack") != attack) continue;
    out[row.at("root_id")] = row.at("outcome").get<std::string>() + "/" +
                             row.at("class").get<std::string>() + "/" +
                             row.at("class_probability").dump();
  }
  return out;
}

Table RunTable(std::vector<std::string> arguments, int code) {
  arguments.push_back("--out=out.json");
  const ProcessResult result = RunTiny(arguments);
  INFO(result.err);
  REQUIRE(result.code == code);
  Table table;
  table.results = ReadJsonFile(Desk() / "out.json");
  std::ifstream rows(Desk() / "out.rows.jsonl");
  for (std::string line; std::getline(rows, line);) table.rows.push_back(Json::parse(line));
  CHECK(SchemaProblems(table.results, ReadJsonFile(RepoFile("results/schema.json"))) ==
        std::vector<std::string>{});
  return table;
}

void Refused(const std::vector<std::string>& arguments, const std::string& message, int code) {
  const ProcessResult result = RunTiny(arguments);
  INFO(message << " in\n" << result.err);
  CHECK(result.code == code);
  CHECK_THAT(result.err, Catch::Contains(message));
  CHECK(result.out.empty());
}

void Write(const std::string& name, const std::string& bytes) {
  fs::create_directories((Desk() / name).parent_path());
  std::ofstream(Desk() / name, std::ios::binary) << bytes;
}

RowFile Export(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = arguments;
  all.push_back("--export_prompts=prompts.csv");
  const ProcessResult result = RunTiny(all);
  INFO(result.err);
  REQUIRE(result.code == 0);
  return ReadRows(Desk() / "prompts.csv");
}

}  // namespace excise
