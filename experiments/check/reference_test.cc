#include "experiments/check/reference.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/files.h"
#include "tests/made_up_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

// The rate of "good" without attack, with another erase seed.
Results Run(double value, int64_t seed = 1) {
  Results results = MadeUpResults();
  for (Record& record : results.records) {
    if (RecordName(record) == "good / * / none / asr") record.score.value = value;
  }
  results.experiment["seeds"]["erase"] = seed;
  return results;
}

ReferenceOutcome OfGood(double now, const std::vector<double>& seeds) {
  std::vector<Results> runs;
  for (size_t i = 0; i < seeds.size(); ++i) {
    runs.push_back(Run(seeds[i], static_cast<int64_t>(i) + 1));
  }
  for (const ReferenceOutcome& o : CompareWithReference(Run(now, 9), ReferenceOf(runs))) {
    if (o.record == "good / * / none / asr") return o;
  }
  FAIL("no such record");
  return {};
}

}  // namespace

TEST_CASE("a rate within the band of several seeds is reproduced, beyond it differs, both sides") {
  CHECK(OfGood(0.25, {0.20, 0.22, 0.24}).verdict == "reproduced");
  CHECK(OfGood(0.33, {0.20, 0.22, 0.24}).verdict == "differs");
  CHECK(OfGood(0.11, {0.20, 0.22, 0.24}).verdict == "differs");
}

TEST_CASE("seeds that spread too far decide nothing") {
  // sd 0.1 of three seeds: SE of the difference 0.1 sqrt(4/3) = 0.115, above half of 0.10.
  const ReferenceOutcome outcome = OfGood(0.2, {0.1, 0.2, 0.3});
  CHECK(outcome.verdict == "underpowered");
  CHECK_THAT(outcome.detail, Contains("SE 0.1155"));
}

TEST_CASE("only rates over all concepts are held, and what is gone is said") {
  const Json reference = ReferenceOf({Run(0.2), Run(0.2, 2)});
  CHECK(reference["records"].size() == 8);  // four methods, two attacks
  Results less = Run(0.2, 3);
  less.records.pop_back();
  const std::vector<ReferenceOutcome> outcomes = CompareWithReference(less, reference);
  CHECK(std::count_if(outcomes.begin(), outcomes.end(),
                      [](const auto& o) { return o.verdict == "not_run"; }) == 1);
  CHECK_THAT(RenderReference(outcomes), Contains("8 rates: 1 not_run, 7 reproduced"));
}

TEST_CASE("another experiment or other inputs are refused, other numerics are not") {
  const Json reference = ReferenceOf({Run(0.2), Run(0.2, 2)});
  Results other = Run(0.2, 3);
  other.inputs["numerics"]["fingerprint"] = std::string(64, 'c');
  CHECK_NOTHROW(CompareWithReference(other, reference));
  other.inputs["judge"]["sha"] = std::string(64, 'd');
  CHECK_THROWS_WITH(CompareWithReference(other, reference), Contains("/inputs/judge/sha"));
}

TEST_CASE("a reference file that is none is refused by name") {
  const std::filesystem::path file = TestFolder("reference") / "bad.json";
  WriteFileAtomically(file, "{\"records\": [{\"record\": 3}]}");
  CHECK_THROWS_WITH(ReadReference(file), Contains("bad.json") && Contains("--update_reference"));
  const Json good = ReferenceOf({Run(0.2), Run(0.3, 2)});
  WriteFileAtomically(file, good.dump());
  CHECK(ReadReference(file) == good);
}

}  // namespace excise
