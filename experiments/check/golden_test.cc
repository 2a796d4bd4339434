#include "experiments/check/golden.h"

#include <catch2/catch.hpp>
#include <map>

#include "core/error.h"
#include "core/files.h"
#include "core/read_file.h"
#include "tests/made_up_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

// The methods are none, good, near and poor; `but` takes no part.
Json MadeUp(const std::string& but = "") {
  Results results = MadeUpResults();
  auto& records = results.records;
  records.erase(std::remove_if(records.begin(), records.end(),
                               [&](const Record& record) { return record.method == but; }),
                records.end());
  results.comparisons = CompareAll(records);
  return ResultsToJson(results);
}

// The rate of a method over all concepts without attack.
Json& RateOf(Json& results, const std::string& method) {
  for (Json& record : results["records"]) {
    if (RecordNameOf(record) == method + " / * / none / asr") return record["value"];
  }
  throw std::runtime_error("no record");
}

fs::path Written(const Json& results, const char* folder) {
  const fs::path file = TestFolder(folder) / "golden" / "made_up.json";
  UpdateGolden(results, "one", file);
  return file;
}

std::map<std::string, std::string> FilesBelow(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[entry.path().filename()] = ReadFile(entry.path());
  }
  return files;
}

}  // namespace

TEST_CASE("a method that is new adds a file, changes none and breaks no check") {
  const fs::path file = Written(MadeUp("near"), "golden_new");
  const std::map<std::string, std::string> before = FilesBelow(file.parent_path());
  CHECK(before.size() == 4);  // the table's, and three methods'
  const GoldenCheck check = CompareWithGolden(MadeUp(), ReadGolden(file), /*narrowed=*/false);
  CHECK(check.report.agreement == Agreement::kSame);
  CHECK(check.added == std::vector<std::string>{"near"});
  CHECK_THAT(GoldenSummary(check), Contains("the same bytes") &&
                                       Contains("new, and held by nothing: near") &&
                                       Contains("--update_golden"));
  CHECK(UpdateGolden(MadeUp(), "one", file) ==
        std::vector<std::string>{"near: its file is new, 4 records"});
  std::map<std::string, std::string> after = FilesBelow(file.parent_path());
  CHECK(after.erase("near.json") == 1);
  CHECK(after == before);
  CHECK(CompareWithGolden(MadeUp(), ReadGolden(file), false).added.empty());
}

TEST_CASE("a golden file whose method takes no part fails, but where the run was narrowed") {
  const fs::path file = Written(MadeUp(), "golden_gone");
  const GoldenCheck whole = CompareWithGolden(MadeUp("near"), ReadGolden(file), false);
  CHECK_FALSE(whole.report.Passed());
  CHECK_THAT(GoldenSummary(whole), Contains("near: has a golden file and takes no part"));
  CHECK(CompareWithGolden(MadeUp("near"), ReadGolden(file), true).report.Passed());
  Json changed = MadeUp("near");
  RateOf(changed, "good") = 0.5;
  CHECK_FALSE(CompareWithGolden(changed, ReadGolden(file), true).report.Passed());
  CHECK(UpdateGolden(MadeUp("near"), "one", file) ==
        std::vector<std::string>{"near: its file is removed"});
  CHECK(CompareWithGolden(MadeUp("near"), ReadGolden(file), false).report.Passed());
}

TEST_CASE("what changed is named with its old and new value, records first") {
  const Golden golden = ReadGolden(Written(MadeUp(), "golden_changed"));
  Json now = MadeUp();
  RateOf(now, "none") = 0.5;
  const GoldenCheck check = CompareWithGolden(now, golden, false);
  CHECK(check.report.agreement == Agreement::kChanged);
  REQUIRE(check.report.lines.size() == 1);
  CHECK_THAT(check.report.lines[0],
             Contains("none / * / none / asr: /value was 0.98") && Contains("now 0.5"));
  CHECK_THAT(GoldenSummary(check), Contains("--update_golden"));
  now = MadeUp();
  now["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  CHECK(CompareWithGolden(now, golden, false).report.agreement == Agreement::kOtherNumerics);
  now["inputs"]["judge"]["sha"] = "other";
  CHECK(CompareWithGolden(now, golden, false).report.agreement == Agreement::kOutOfTolerance);
}

TEST_CASE(
    "comparisons of attacks and with the unmodified model are held, those of two methods not") {
  const Golden golden = GoldenOf(MadeUp());
  // Of the rate: one of the two attacks, one under each of them with `none`.
  CHECK(golden.methods.at("none").at("comparisons").size() == 1);
  CHECK(golden.methods.at("good").at("comparisons").size() == 3);
  Json now = MadeUp();
  for (Json& c : now["comparisons"]) {
    if (c["over"] == "methods" && c["first"] == "none" && c["second"] == "good") c["p"] = 0.25;
  }
  CHECK_THAT(CompareWithGolden(now, golden, false).report.Lines(), Contains("/p was"));
}

TEST_CASE("updating says what changes, and keeps the CPUs that the same content was verified on") {
  const fs::path file = Written(MadeUp(), "golden_update");
  const auto verified_on = [&](const std::string& method) {
    return ReadGolden(file).methods.at(method).at("verified_on");
  };
  CHECK(UpdateGolden(MadeUp(), "two", file).empty());
  UpdateGolden(MadeUp(), "two", file);
  CHECK(verified_on("good") == Json({"one", "two"}));
  Json changed = MadeUp();
  RateOf(changed, "good") = 0.5;
  const std::vector<std::string> changes = UpdateGolden(changed, "three", file);
  REQUIRE(changes.size() == 1);
  CHECK_THAT(changes[0], Contains("good / * / none / asr: /value was 0.05, now 0.5"));
  CHECK(verified_on("good") == Json({"three"}));
  CHECK(verified_on("near") == Json({"one", "two", "three"}));
  // Other inputs: what was verified was another thing.
  changed["inputs"]["judge"]["sha"] = std::string(64, 'e');
  CHECK_THAT(UpdateGolden(changed, "four", file)[0], Contains("inputs: /judge/sha was \"bbb"));
  CHECK(verified_on("near") == Json({"four"}));
  CHECK(CompareWithGolden(changed, ReadGolden(file), false).report.agreement == Agreement::kSame);
}

TEST_CASE("the committed golden files are as the program writes them") {
  for (const char* name : {"table1", "table2", "table3", "table4", "replay"}) {
    const fs::path file = RepoFile(fmt::format("results/checks/golden/{}.json", name));
    const Golden golden = ReadGolden(file);
    CHECK(golden.table.dump(1) + "\n" == ReadFile(file));
    for (const auto& [method, held] : golden.methods) {
      INFO(name << " " << method);
      CHECK(held.dump(1) + "\n" == ReadFile(file.parent_path() / name / (method + ".json")));
    }
  }
}

TEST_CASE("a golden file that is none, or that is not there, is named") {
  const fs::path file = Written(MadeUp(), "golden_bad");
  const fs::path good = file.parent_path() / "made_up" / "good.json";
  const std::string whole = ReadFile(good);
  for (const char* content : {"{}", "[]", "{\"verified_on\": 3}",
                              "{\"verified_on\": [], \"records\": [3], \"comparisons\": []}"}) {
    WriteFileAtomically(good, content);
    CHECK_THROWS_WITH(ReadGolden(file), Contains("good.json") && Contains("--update_golden"));
  }
  fs::copy(good.parent_path() / "near.json", good, fs::copy_options::overwrite_existing);
  CHECK_THROWS_WITH(ReadGolden(file), Contains("good.json") && Contains("another method, near"));
  WriteFileAtomically(good, whole);
  CHECK_NOTHROW(ReadGolden(file));
  fs::remove(good.parent_path() / "none.json");
  CHECK_THROWS_WITH(ReadGolden(file), Contains("none.json") && Contains("--update_golden"));
  WriteFileAtomically(file, "{\"schema\": 1, \"experiment\": {}, \"inputs\": {}}");
  CHECK_THROWS_WITH(ReadGolden(file), Contains("made_up.json") && Contains("--update_golden"));
}

}  // namespace excise
