#include "experiments/check/committed.h"

#include <catch2/catch.hpp>

#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

Json Plain() { return ResultsToJson(MadeUpResults()); }

// As another CPU computed it: record 8, none / * / none / asr, shows a picture of 120 less.
Json Elsewhere() {
  Json results = Plain();
  results["inputs"]["numerics"]["fingerprint"] = std::string(64, 'c');
  results["inputs"]["numerics"]["isa"] = "AVX512";
  results["provenance"]["host_cpu"] = "another CPU";
  results["records"][8]["value"] = 117.0 / 120;
  return results;
}

std::string Told(const Json& results) {
  return AgainstCommitted(results, Plain(), "results/table1/table1.json");
}

}  // namespace

TEST_CASE("a run that prints other values than the committed one on other numerics says so") {
  const std::string line = Told(Elsewhere());
  CHECK_THAT(
      line,
      Contains("Other numerics: results/table1/table1.json was computed on a CPU (AVX2), this "
               "on another CPU (AVX512)") &&
          Contains("1 of 16 values are printed otherwise, by at most 0.8 points") &&
          Contains("none / * / none / asr: 98.3 % there, 97.5 % here"));
  CHECK(line.find('\n') == std::string::npos);
  Json same = Elsewhere();
  same["inputs"]["numerics"] = Plain()["inputs"]["numerics"];
  CHECK_THAT(Told(same), Contains("the program has changed"));
}

TEST_CASE("nothing is said where values are equal or another thing was computed") {
  CHECK(Told(Plain()).empty());
  Json rounded = Elsewhere();
  rounded["records"][8]["value"] = 118.0 / 120 + 1e-6;  // no table shows it
  CHECK(Told(rounded).empty());
  Json other = Elsewhere();
  other["inputs"]["judge"]["sha"] = std::string(64, 'e');
  CHECK(Told(other).empty());
  other = Elsewhere();
  other["experiment"]["seeds"]["noise"] = 9;
  CHECK(Told(other).empty());
  other = Elsewhere();
  other["records"][8]["method_params"] = {{"lambda", 2}};
  CHECK(Told(other).empty());
  // Words decide no number.
  other = Elsewhere();
  other["experiment"]["caveat"] = "Another caveat.";
  CHECK_FALSE(Told(other).empty());
}

TEST_CASE("committed results are named by table and profile") {
  CHECK(CommittedName("made_up", "default") == "made_up/made_up.json");
  CHECK(CommittedName("made_up", "adaptive") == "made_up/made_up_adaptive.json");
}

}  // namespace excise
