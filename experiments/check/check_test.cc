#include "experiments/check/check.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/files.h"
#include "tests/made_up_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

Json Plain() { return ResultsToJson(MadeUpResults()); }

// Record 8 is none / * / none / asr.
constexpr size_t kWhole = 8;

CheckReport Compare(const Json& results, const Json& golden) {
  return CompareResults(golden.at("results"), DeterministicPart(results));
}

}  // namespace

TEST_CASE("the same numbers pass, whatever the host and the time") {
  const Json golden = MakeGolden(Plain(), {"a CPU"});
  Json now = Plain();
  now["provenance"]["host_cpu"] = "another CPU";
  now["cost"]["peak_memory_mib"] = 7;
  CHECK(Compare(now, golden).agreement == Agreement::kSame);
}

TEST_CASE("on equal numerics a changed number is named with its old and new value") {
  Json now = Plain();
  now["records"][kWhole]["value"] = 0.5;
  const CheckReport report = Compare(now, MakeGolden(Plain(), {"a CPU"}));
  CHECK(report.agreement == Agreement::kChanged);
  REQUIRE(report.lines.size() == 1);
  CHECK_THAT(report.lines[0],
             Contains("none / * / none / asr: /value was 0.98") && Contains("now 0.5"));
  CHECK_THAT(GoldenSummary(report), Contains("--update_golden"));
}

TEST_CASE("records that came or went, and inputs, are named") {
  Json now = Plain();
  now["records"].erase(0);
  now["inputs"]["backbone"]["sha"] = "other";
  now["comparisons"][0]["p"] = 0.25;
  const CheckReport report = Compare(now, MakeGolden(Plain(), {}));
  CHECK(report.agreement == Agreement::kChanged);
  CHECK_THAT(report.Lines(), Contains("none / poodle / none / asr: is gone"));
  CHECK_THAT(report.Lines(), Contains("inputs: /backbone/sha"));
  CHECK_THAT(report.Lines(), Contains("/p was"));
}

TEST_CASE("on other numerics values may move within their tolerance") {
  const Json golden = MakeGolden(Plain(), {});
  Json now = Plain();
  now["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  now["inputs"]["numerics"]["isa"] = "AVX512";
  now["records"][kWhole]["value"] = 117.0 / 120;  // one picture of 120
  CHECK(Compare(now, golden).agreement == Agreement::kOtherNumerics);
  std::swap(now["records"][0], now["records"][1]);
  CHECK_THAT(Compare(now, golden).Lines(), Contains("in another order"));
  std::swap(now["records"][0], now["records"][1]);
  now["records"][kWhole]["value"] = 0.5;
  CheckReport report = Compare(now, golden);
  CHECK(report.agreement == Agreement::kOutOfTolerance);
  CHECK_THAT(GoldenSummary(report), Contains("more than the tolerance") && !Contains("changed on"));
  now = Plain();
  now["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  now["inputs"]["judge"]["sha"] = "other";
  CHECK(Compare(now, golden).agreement == Agreement::kOutOfTolerance);
}

TEST_CASE("updating says what changes, and keeps the CPUs that the same content was verified on") {
  const std::filesystem::path file = TestFolder("golden") / "new" / "table.json";
  CHECK(UpdateGolden(Plain(), "one", file) ==
        std::vector<std::string>{"the file is new: 16 records"});
  CHECK(UpdateGolden(Plain(), "two", file).empty());
  UpdateGolden(Plain(), "two", file);
  CHECK(ReadGolden(file)["verified_on"] == Json({"one", "two"}));
  Json changed = Plain();
  changed["records"][kWhole]["value"] = 0.5;
  changed["inputs"]["judge"]["sha"] = std::string(64, 'e');
  // Other numerics hide no change of a value from who reviews it.
  changed["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  const std::vector<std::string> changes = UpdateGolden(changed, "three", file);
  REQUIRE(changes.size() == 2);
  CHECK_THAT(changes[0], Contains("inputs: /judge/sha was \"bbb"));
  CHECK_THAT(changes[1], Contains("none / * / none / asr: /value was 0.98"));
  CHECK(ReadGolden(file)["verified_on"] == Json({"three"}));
  CHECK(Compare(changed, ReadGolden(file)).agreement == Agreement::kSame);
}

TEST_CASE("a golden file that is none is refused by name") {
  const std::filesystem::path file = TestFolder("golden") / "bad.json";
  for (const char* content : {"{}", "[]", "{\"verified_on\": 3}",
                              "{\"verified_on\": [], \"results\": {\"schema\": 1}}"}) {
    WriteFileAtomically(file, content);
    CHECK_THROWS_WITH(ReadGolden(file), Contains("bad.json") && Contains("--update_golden"));
  }
}

TEST_CASE("what a results file calls itself opens no line of a report") {
  CheckReport report;
  report.lines = {"x\x1b[2J\nverified: every byte is the same.: is gone"};
  CHECK(report.Lines() == "\n  x\\x1b[2J\\nverified: every byte is the same.: is gone");
}

}  // namespace excise
