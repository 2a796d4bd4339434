// Tables' CSV as people read it who live in Python: by its own csv module and, where it is
// installed, by pandas, with the document's examples; and the tool that converts weights.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>

#include "experiments/tables/render.h"
#include "tests/made_up_results.h"
#include "tests/process.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

// Runs python3 with these words.
void CheckInPython(const std::vector<fs::path>& words) {
  if (std::system("command -v python3 > /dev/null 2>&1") != 0) {
    WARN("SKIPPED: there is no python3; nothing was checked.");
    return;
  }
  const std::string log = (TestFolder("log") / "log").string();
  std::string command = "python3";
  for (const fs::path& word : words) command += " '" + word.string() + "'";
  const int status = std::system((command + " > '" + log + "' 2>&1").c_str());
  const std::string said = ReadBytes(log);
  INFO(command << "\n" << said);
  CHECK(status == 0);
  if (said.find("SKIPPED") != said.npos) WARN(said);
}

}  // namespace

TEST_CASE("Python reads the JSON's numbers from the CSV, and the document's examples work") {
  Results results = MadeUpResults();
  for (Record& record : results.records) {
    record.score.parts = {{"target", record.score.value}, {"anchor", 1 - record.score.value}};
  }
  Record shift = MadeUpRecord("good", "none", "shift", MadeUpRate(100, 50));
  shift.score.parts = {
      {"near", 0.25}, {"near_n", 40}, {"mean", -1e-7}, {"mean_low", -1}, {"mean_high", 2}};
  shift.denominators["bounds"] = {0.25, 1e-9};
  const Record named = MadeUpRecord("good", "none", "asr", MadeUpRate(1, 1), "a, \"concept\"");
  Record failed = MadeUpRecord("poor", "none", "shift", {});
  failed.status = "error";
  for (const Record& record : {shift, named, failed}) results.records.push_back(record);
  const fs::path folder = TestFolder("tidy");
  std::ofstream(folder / "table1.csv", std::ios::binary) << RenderCsv(results);
  std::ofstream(folder / "table1.json") << ResultsToJson(results).dump();
  Row row;
  row.method = "good";
  row.class_probability = 0.1 + 0.2;
  std::ofstream(folder / "table1.rows.jsonl") << CanonicalJson(RowToJson(row)) << "\n";
  // The document's examples are run as well.
  CheckInPython({RepoFile("tests/tidy_csv.py"), folder / "table1.csv", folder / "table1.json",
                 RepoFile("docs/outputs.md")});
}

TEST_CASE("committed CSV files hold the committed numbers") {
  const fs::path committed = RepoFile("results/schema.json").parent_path();
  size_t tables = 0;
  for (const auto& entry : fs::recursive_directory_iterator(committed)) {
    if (entry.path().extension() != ".csv") continue;
    fs::path json = entry.path();
    CheckInPython({RepoFile("tests/tidy_csv.py"), entry.path(), json.replace_extension(".json")});
    ++tables;
  }
  CHECK(tables >= 6);
}

TEST_CASE("weights of PyTorch and ONNX are converted, and bad files refused") {
  CheckInPython({RepoFile("tests/convert_weights_check.py"), RepoFile("tools/convert_weights.py"),
                 TestFolder("convert_weights")});
}

}  // namespace excise
