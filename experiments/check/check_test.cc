#include "experiments/check/check.h"

#include <catch2/catch.hpp>

#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

Json Plain() { return ResultsToJson(MadeUpResults()); }

// Record 8 is none / * / none / asr.
constexpr size_t kWhole = 8;

CheckReport Compare(const Json& now) {
  return CompareResults(DeterministicPart(Plain()), DeterministicPart(now));
}

}  // namespace

TEST_CASE("the same numbers pass, whatever the host and the time") {
  Json now = Plain();
  now["provenance"]["host_cpu"] = "another CPU";
  now["cost"]["peak_memory_mib"] = 7;
  CHECK(Compare(now).agreement == Agreement::kSame);
}

TEST_CASE("on equal numerics a changed number is named with its old and new value") {
  Json now = Plain();
  now["records"][kWhole]["value"] = 0.5;
  const CheckReport report = Compare(now);
  CHECK(report.agreement == Agreement::kChanged);
  REQUIRE(report.lines.size() == 1);
  CHECK_THAT(report.lines[0],
             Contains("none / * / none / asr: /value was 0.98") && Contains("now 0.5"));
}

TEST_CASE("records that came or went, and inputs, are named") {
  Json now = Plain();
  now["records"].erase(0);
  now["inputs"]["backbone"]["sha"] = "other";
  now["comparisons"][0]["p"] = 0.25;
  const CheckReport report = Compare(now);
  CHECK(report.agreement == Agreement::kChanged);
  CHECK_THAT(report.Lines(), Contains("none / poodle / none / asr: is gone"));
  CHECK_THAT(report.Lines(), Contains("inputs: /backbone/sha"));
  CHECK_THAT(report.Lines(), Contains("/p was"));
}

TEST_CASE("on other numerics values may move within their tolerance") {
  Json now = Plain();
  now["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  now["inputs"]["numerics"]["isa"] = "AVX512";
  now["records"][kWhole]["value"] = 117.0 / 120;  // one picture of 120
  CHECK(Compare(now).agreement == Agreement::kOtherNumerics);
  std::swap(now["records"][0], now["records"][1]);
  CHECK_THAT(Compare(now).Lines(), Contains("in another order"));
  std::swap(now["records"][0], now["records"][1]);
  now["records"][kWhole]["value"] = 0.5;
  const CheckReport report = Compare(now);
  CHECK(report.agreement == Agreement::kOutOfTolerance);
  CHECK_THAT(report.Lines(), Contains("more than the tolerance"));
  now = Plain();
  now["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  now["inputs"]["judge"]["sha"] = "other";
  CHECK(Compare(now).agreement == Agreement::kOutOfTolerance);
}

TEST_CASE("all differences are listed, whatever the numerics") {
  Json now = Plain();
  now["records"][kWhole]["value"] = 0.97;  // within the tolerance
  now["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  const std::vector<std::string> lines =
      AllDifferences(DeterministicPart(Plain()), DeterministicPart(now));
  REQUIRE(lines.size() == 1);
  CHECK_THAT(lines[0], Contains("none / * / none / asr: /value was 0.98"));
  CHECK(AllDifferences(DeterministicPart(Plain()), DeterministicPart(Plain())).empty());
}

TEST_CASE("what a results file calls itself opens no line of a report") {
  CheckReport report;
  report.lines = {"x\x1b[2J\nverified: every byte is the same.: is gone"};
  CHECK(report.Lines() == "\n  x\\x1b[2J\\nverified: every byte is the same.: is gone");
}

}  // namespace excise
