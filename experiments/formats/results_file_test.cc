#include "experiments/formats/results_file.h"

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "core/files.h"
#include "experiments/check/verify.h"
#include "tests/made_up_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

Json MadeUp() { return ResultsToJson(MadeUpResults()); }

std::filesystem::path Written(const std::string& text) {
  const std::filesystem::path file = TestFolder("results_file") / "made.json";
  WriteFileAtomically(file, text);
  return file;
}

std::string RowText(const char* root, const char* method = "uce") {
  return fmt::format(
      R"({{"method":"{}","concept":"poodle","attack":"none","group":"target","root_id":"{}",)"
      R"("replicate":0}})",
      method, root);
}

}  // namespace

TEST_CASE("a results file is read back as it was written") {
  const std::filesystem::path file = Written(MadeUp().dump(1));
  CHECK(ReadResults(file) == MadeUp());
}

TEST_CASE("a file that is truncated, malformed or something else is refused by name") {
  const std::string whole = MadeUp().dump(1);
  CHECK_THROWS_WITH(ReadResults(Written(whole.substr(0, whole.size() / 2))), Contains("made.json"));
  CHECK_THROWS_WITH(ReadResults(Written("")), Contains("made.json"));
  CHECK_THROWS_WITH(ReadResults(Written("[1, 2]")), Contains("not a results file"));
  CHECK_THROWS_WITH(ReadResults(Written("{\"name\": \"table1\"}")), Contains("not a results file"));
  CHECK_THROWS_WITH(ReadResults("/nowhere/made.json"), Contains("/nowhere/made.json"));
  const auto broken = [](const auto& change) {
    Json results = MadeUp();
    change(results);
    return Written(results.dump());
  };
  CHECK_THROWS_WITH(ReadResults(broken([](Json& r) { r["schema"] = 99; })), Contains("/schema"));
  CHECK_THROWS_WITH(ReadResults(broken([](Json& r) { r["records"][3].erase("metric"); })),
                    Contains("/records/3"));
  CHECK_THROWS_WITH(ReadResults(broken([](Json& r) { r["records"][0]["value"] = "high"; })),
                    Contains("/records/0/value"));
  CHECK_THROWS_WITH(
      ReadResults(broken([](Json& r) { r["inputs"]["numerics"].erase("fingerprint"); })),
      Contains("/inputs/numerics"));
  CHECK_THROWS_WITH(ReadResults(broken([](Json& r) { r["records"].push_back(r["records"][2]); })),
                    Contains("is there twice"));
}

TEST_CASE("a file without records, and a backbone that is a path, are reported") {
  const auto broken = [](const auto& change) {
    Json results = MadeUp();
    change(results);
    return Written(results.dump());
  };
  CHECK_THROWS_WITH(ReadResults(broken([](Json& r) { r["records"] = Json::array(); })),
                    Contains("made.json") && Contains("list of records is empty"));
  for (const char* name : {"../../etc", "..", "/etc", "a/b", "a\\b", "", ".hidden", "a\nb"}) {
    CHECK_THROWS_WITH(ReadResults(broken([&](Json& r) { r["experiment"]["backbone"] = name; })),
                      Contains("made.json") && Contains("is no name of a folder"));
  }
}

TEST_CASE("rows are refused with their line where they are missing, malformed or repeated") {
  const std::filesystem::path file = Written(MadeUp().dump());
  std::filesystem::path rows = file;
  rows.replace_extension(".rows.jsonl");
  CHECK_THROWS_WITH(ReadResultRows(file), Contains("made.rows.jsonl") && Contains("beside it"));
  WriteFileAtomically(rows, RowText("a") + "\n" + RowText("b") + "\n");
  CHECK(ReadResultRows(file).size() == 2);
  CHECK(RowNameOf(ReadResultRows(file)[1]) == "uce / poodle / none / target / b#0");
  WriteFileAtomically(rows, RowText("a") + "\n" + RowText("b").substr(0, 30));
  CHECK_THROWS_WITH(ReadResultRows(file), Contains("line 2"));
  WriteFileAtomically(rows, RowText("a") + "\n{\"method\": 3}\n");
  CHECK_THROWS_WITH(ReadResultRows(file), Contains("line 2") && Contains("not a row"));
  WriteFileAtomically(rows, RowText("a") + "\n" + RowText("a") + "\n");
  CHECK_THROWS_WITH(ReadResultRows(file), Contains("line 2") && Contains("twice"));
}

TEST_CASE("the experiment is rebuilt from what its records say") {
  Json results = MadeUp();
  for (Json& record : results["records"]) {
    if (record["method"] == "good") record["method_params"] = {{"lambda", 0.5}};
    if (record["attack"] == "pez") record["attack_params"] = {{"iterations", 7}};
  }
  results["experiment"]["profile"] = "smoke";
  const Experiment experiment = ExperimentOf(results, "made.json");
  CHECK(experiment.name == "made_up");
  CHECK(experiment.profile == "smoke");
  CHECK(experiment.concepts == std::vector<std::string>{"poodle"});
  CHECK(experiment.methods.only == std::vector<std::string>{"none", "good", "near", "poor"});
  CHECK(experiment.attacks.only == std::vector<std::string>{"none", "pez"});
  CHECK(experiment.methods.params.at("good") == Json({{"lambda", 0.5}}));
  CHECK(experiment.attacks.params.at("pez") == Json({{"iterations", 7}}));
  CHECK(ExperimentToJson(experiment) == results["experiment"]);
}

TEST_CASE("a section of quadruplets comes back with the data set's parameters") {
  Json results = MadeUp();
  results["experiment"]["quadruplets"] = {{"set", "visu"}, {"pool", 50}};
  results["inputs"]["quadruplets"] = {{"set", "visu"},
                                      {"version", 1},
                                      {"params", {{"annotations", "text"}, {"unseen", {"blood"}}}},
                                      {"files", {{"annotations", std::string(64, 'd')}}}};
  CHECK_THROWS_WITH(ExperimentOf(results, "made.json"),
                    Contains("--set quadruplets.params.annotations=PATH") && Contains("'text'"));
  const Experiment experiment =
      ExperimentOf(results, "made.json", {"quadruplets.params.annotations=/my/text"});
  CHECK(experiment.quadruplets.set == "visu");
  CHECK(experiment.quadruplets.pool == 50);
  CHECK(experiment.quadruplet_params == Json({{"annotations", "/my/text"}, {"unseen", {"blood"}}}));
}

TEST_CASE("a file of the author must be named, and is not looked for by its name") {
  Json results = MadeUp();
  for (Json& record : results["records"]) {
    if (record["method"] != "good") continue;
    record["method_params"] = {{"plugin", "snapshot"},
                               {"folder", "edited"},
                               {"lora", ""},
                               {"folder_sha256", std::string(64, 'd')}};
  }
  CHECK_THROWS_WITH(ExperimentOf(results, "made.json"),
                    Contains("--set methods.good.folder=PATH") && Contains("'edited'"));
  const Experiment experiment =
      ExperimentOf(results, "made.json", {"methods.good.folder=/my/copy"});
  CHECK(experiment.methods.params.at("good") ==
        Json({{"plugin", "snapshot"}, {"folder", "/my/copy"}, {"lora", ""}}));
}

TEST_CASE("a sample of the records is drawn by seed, and names are checked") {
  const Json results = MadeUp();
  VerifyRequest request;
  CHECK(ChooseRecords(results, request).size() == results["records"].size());
  request.sample = 3;
  const std::vector<std::string> first = ChooseRecords(results, request);
  CHECK(first.size() == 3);
  CHECK(ChooseRecords(results, request) == first);
  bool another = false;
  for (request.seed = 2; request.seed < 6; ++request.seed) {
    another = another || ChooseRecords(results, request) != first;
  }
  CHECK(another);
  request.records = {"good / * / pez / asr"};
  CHECK(ChooseRecords(results, request) == request.records);
  request.records = {"goood / * / pez / asr"};
  CHECK_THROWS_AS(ChooseRecords(results, request), UsageError);
  CHECK_THROWS_WITH(ChooseRecords(results, request),
                    Contains("Did you mean 'good / * / pez / asr'"));
}

}  // namespace excise
