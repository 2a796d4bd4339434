#include "experiments/check/recheck.h"

#include <catch2/catch.hpp>

#include "experiments/results/over_concepts.h"
#include "tests/made_up_results.h"

namespace excise {

TEST_CASE("an interval over concepts must follow from the samples beside it, where there is one") {
  std::vector<Observation> observations;
  for (const char* subject : {"poodle", "weapons"}) {
    for (int i = 0; i < 10; ++i) {
      const bool hit = i < (subject[0] == 'p' ? 1 : 8);
      observations.push_back({fmt::format("{}/target/set@0/{:03}#0", subject, i), hit ? 1.0 : 0.0});
    }
  }
  Results results = MadeUpResults();
  results.records = {MadeUpRecord("uce", "none", "asr", MeanScore(observations))};
  results.comparisons.clear();
  const size_t others = DerivedProblems(results).size();  // files of earlier versions have none
  AddIntervalsOverConcepts(&results.records);
  REQUIRE(results.records[0].score.over_concepts);
  CHECK(DerivedProblems(results).size() == others);
  results.records[0].score.over_concepts->high -= 0.01;
  const std::vector<std::string> problems = DerivedProblems(results);
  REQUIRE(problems.size() == others + 1);
  CHECK_THAT(problems.back(), Catch::Contains("uce / * / none / asr: the interval over concepts"));
}

}  // namespace excise
