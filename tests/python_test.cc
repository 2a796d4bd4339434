// Tables' CSV as people read it who live in Python: by its own csv module and, where it is
// installed, by pandas, with the document's examples.
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

// Holds a CSV against its JSON by tests/tidy_csv.py; `document`: whose examples are run as well.
void CheckInPython(const fs::path& csv, const fs::path& json, const std::string& document = "") {
  if (std::system("command -v python3 > /dev/null 2>&1") != 0) {
    WARN("SKIPPED: there is no python3; nothing read the CSV.");
    return;
  }
  const std::string log = (TestFolder("log") / "log").string();
  std::string command = "python3";
  for (const fs::path& word : {RepoFile("tests/tidy_csv.py"), csv, json}) {
    command += " '" + word.string() + "'";
  }
  if (!document.empty()) command += " '" + RepoFile(document).string() + "'";
  const int status = std::system((command + " > '" + log + "' 2>&1").c_str());
  const std::string said = ReadBytes(log);
  INFO(csv << "\n" << said);
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
  CheckInPython(folder / "table1.csv", folder / "table1.json", "docs/outputs.md");
}

TEST_CASE("committed CSV files hold the committed numbers") {
  const fs::path committed = RepoFile("results/schema.json").parent_path();
  size_t tables = 0;
  for (const auto& entry : fs::recursive_directory_iterator(committed)) {
    if (entry.path().extension() != ".csv") continue;
    fs::path json = entry.path();
    CheckInPython(entry.path(), json.replace_extension(".json"));
    ++tables;
  }
  CHECK(tables >= 6);
}

}  // namespace excise
