#include "experiments/check.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "experiments/made_up_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

Json Plain() { return ResultsToJson(MadeUpResults()); }

// Record 8 is none / * / none / asr.
constexpr size_t kWhole = 8;

}  // namespace

TEST_CASE("the same numbers pass, whatever the host and the time") {
  const Json golden = MakeGolden(Plain(), {"a CPU"});
  Json now = Plain();
  now["provenance"]["host_cpu"] = "another CPU";
  now["cost"]["peak_memory_mib"] = 7;
  CHECK(CompareWithGolden(now, golden).verdict == GoldenVerdict::kSame);
}

TEST_CASE("on equal numerics a changed number is named with its old and new value") {
  Json now = Plain();
  now["records"][kWhole]["value"] = 0.5;
  const GoldenReport report = CompareWithGolden(now, MakeGolden(Plain(), {"a CPU"}));
  CHECK(report.verdict == GoldenVerdict::kChanged);
  REQUIRE(report.lines.size() == 1);
  CHECK_THAT(report.lines[0],
             Contains("none / * / none / asr: /value was 0.98") && Contains("now 0.5"));
  CHECK_THAT(report.Summary(), Contains("--update_golden"));
}

TEST_CASE("records that came or went, and inputs, are named") {
  Json now = Plain();
  now["records"].erase(0);
  now["inputs"]["backbone"]["sha"] = "other";
  now["comparisons"][0]["p"] = 0.25;
  const GoldenReport report = CompareWithGolden(now, MakeGolden(Plain(), {}));
  CHECK(report.verdict == GoldenVerdict::kChanged);
  CHECK_THAT(report.Summary(), Contains("none / poodle / none / asr: is gone"));
  CHECK_THAT(report.Summary(), Contains("inputs: /backbone/sha"));
  CHECK_THAT(report.Summary(), Contains("/p was"));
}

TEST_CASE("on other numerics values may move within their tolerance") {
  const Json golden = MakeGolden(Plain(), {});
  Json now = Plain();
  now["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  now["inputs"]["numerics"]["isa"] = "AVX512";
  now["records"][kWhole]["value"] = 117.0 / 120;  // one picture of 120
  CHECK(CompareWithGolden(now, golden).verdict == GoldenVerdict::kOtherNumerics);
  now["records"][kWhole]["value"] = 0.5;
  GoldenReport report = CompareWithGolden(now, golden);
  CHECK(report.verdict == GoldenVerdict::kOutOfTolerance);
  CHECK_THAT(report.Summary(), Contains("more than the tolerance") && !Contains("changed on"));
  now = Plain();
  now["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  now["inputs"]["judge"]["sha"] = "other";
  CHECK(CompareWithGolden(now, golden).verdict == GoldenVerdict::kOutOfTolerance);
}

TEST_CASE("updating keeps the CPUs that the same content was verified on") {
  const std::filesystem::path file = TestFolder("golden") / "new" / "table.json";
  UpdateGolden(Plain(), "one", file);
  UpdateGolden(Plain(), "two", file);
  UpdateGolden(Plain(), "two", file);
  CHECK(ReadJsonFile(file)["verified_on"] == Json({"one", "two"}));
  Json changed = Plain();
  changed["records"][kWhole]["value"] = 0.5;
  UpdateGolden(changed, "three", file);
  CHECK(ReadJsonFile(file)["verified_on"] == Json({"three"}));
  CHECK(CompareWithGolden(changed, ReadJsonFile(file)).verdict == GoldenVerdict::kSame);
}

}  // namespace excise
