#include "experiments/comparisons.h"

#include <catch2/catch.hpp>

#include "core/stats.h"
#include "experiments/made_up_results.h"

namespace excise {

TEST_CASE("methods are compared on the same samples by the exact McNemar test") {
  // good hits {0..5}, near {0..7}: two discordant pairs, p = 2 * 0.25 = 0.5.
  const Results results = MadeUpResults();
  const Comparison* c =
      FindComparison(results.comparisons, "asr", "", "methods", "none", "near", "good");
  REQUIRE(c != nullptr);
  CHECK(c->test == "mcnemar");
  CHECK(c->n == 120);
  CHECK(c->first == "good");
  CHECK(c->difference == Approx(-2.0 / 120));
  CHECK(c->p == Approx(0.5));
  // 52 discordant pairs, all one way: p = 2^-51.
  const Comparison* far =
      FindComparison(results.comparisons, "asr", "", "methods", "none", "near", "poor");
  REQUIRE(far != nullptr);
  CHECK(far->p == Approx(std::ldexp(1.0, -51)));
}

TEST_CASE("p-values are adjusted within one column") {
  const Results results = MadeUpResults();
  std::vector<double> p, adjusted;
  for (const Comparison& c : results.comparisons) {
    if (c.over != "methods" || c.given != "none") continue;
    p.push_back(c.p);
    adjusted.push_back(c.p_holm);
  }
  CHECK(p.size() == 6);  // pairs of four methods
  CHECK(adjusted == Holm(p));
}

TEST_CASE("attacks are compared on one method") {
  const Results results = MadeUpResults();
  // none hits {0..59}, pez {60..89}: 60 against 30 discordant pairs.
  const Comparison* c =
      FindComparison(results.comparisons, "asr", "", "attacks", "poor", "none", "pez");
  REQUIRE(c != nullptr);
  CHECK(c->p == Approx(McNemarExact(60, 30)));
  CHECK(c->difference == Approx(0.25));
}

TEST_CASE("scores that are no rates are compared by a bootstrap, and costs not at all") {
  std::vector<Record> records;
  for (const char* method : {"a", "b"}) {
    std::vector<Observation> observations;
    for (int i = 0; i < 30; ++i) {
      observations.push_back(
          {fmt::format("poodle/near/set@0/{:02}#0", i), 0.01 * i + (method[0] == 'a' ? 0.5 : 0.0)});
    }
    records.push_back(MadeUpRecord(method, "none", "clip_score", MeanScore(observations)));
    records.back().traits.group = "retention";
    records.back().traits.sample_groups = {"near", "far"};
    records.push_back(MadeUpRecord(method, "none", "cost", MeanScore(observations)));
    records.back().traits.group = "cost";
  }
  const std::vector<Comparison> comparisons = CompareAll(records);
  // Over all samples and within "near"; none of the samples is of "far".
  REQUIRE(comparisons.size() == 2);
  CHECK(comparisons[0].test == "bootstrap");
  CHECK(comparisons[0].difference == Approx(0.5));
  CHECK(comparisons[0].p < 0.01);
  CHECK(comparisons[1].part == "near");
}

}  // namespace excise
