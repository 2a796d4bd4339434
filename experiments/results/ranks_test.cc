#include "experiments/results/ranks.h"

#include <catch2/catch.hpp>
#include <map>

#include "core/error.h"
#include "experiments/formats/results_file.h"
#include "tests/made_up_results.h"

namespace excise {
namespace {

using Catch::Contains;

// Removal by concept, of the methods a, b and c.
using Removed = std::map<std::string, std::vector<double>>;

Record MakeRecord(const std::string& method, const std::string& subject, const std::string& metric,
                  double value, const std::string& attack = "none") {
  Score score;
  score.value = score.low = score.high = value;
  score.n = 10;
  return MadeUpRecord(method, attack, metric, score, subject);
}

Results Run(int64_t seed, double guidance, const Removed& removed, double kept = 0.8) {
  Results results = MadeUpResults();
  results.experiment["seeds"]["erase"] = seed;
  results.experiment["sampler"]["guidance"] = guidance;
  results.records.clear();
  for (const auto& [subject, values] : removed) {
    for (size_t m = 0; m < values.size(); ++m) {
      const std::string method(1, static_cast<char>('a' + m));
      results.records.push_back(MakeRecord(method, subject, "asr", 1 - values[m]));
      results.records.push_back(MakeRecord(method, subject, "asr", 1, kUnion));
      results.records.push_back(MakeRecord(method, subject, "retention", kept));
    }
    results.records.push_back(MakeRecord("none", subject, "asr", 1));
    results.records.push_back(MakeRecord("none", subject, "retention", 1));
  }
  return results;
}

const Removed kFirst = {{"p", {.9, .5, .1}}, {"q", {.9, .1, .5}}, {"r", {.1, .5, .9}}};
const Removed kSecond = {{"p", {.9, .5, .1}}, {"q", {.9, .1, .5}}, {"r", {.9, .5, .1}}};

// Worked by hand. Within kFirst: tau(p, q) = 1/3, tau(p, r) = -1, tau(q, r) = -1/3; within kSecond:
// 1/3, 1, 1/3. By means kFirst is a > c > b and kSecond a > b > c: 1/3.
TEST_CASE("ranks and their agreement over concepts, seeds and guidance") {
  const Ranks ranks =
      RankMethods({Run(1, 3, kFirst), Run(2, 3, kSecond), Run(1, 5, kFirst)}, "none");
  CHECK(ranks.methods == std::vector<std::string>{"a", "b", "c"});
  CHECK(ranks.concepts == std::vector<std::string>{"p", "q", "r"});
  CHECK(ranks.left_out.empty());
  REQUIRE(ranks.metrics.size() == 3);
  for (const size_t metric : {0, 2}) {  // all are kept alike, so the harmonic mean follows removal
    const MetricRanks& one = ranks.metrics[metric];
    INFO(one.metric);
    CHECK(one.over_concepts.pairs == 9);
    CHECK(one.over_concepts.tau == Approx(-1.0 / 27));
    CHECK(one.over_seeds.pairs == 1);
    CHECK(one.over_seeds.tau == Approx(1.0 / 3));
    CHECK(one.over_guidance.pairs == 1);
    CHECK(one.over_guidance.tau == Approx(1));
    CHECK(one.over_guidance.ci.low == Approx(1));  // the runs are alike for every draw of concepts
    CHECK(one.over_guidance.ci.high == Approx(1));
    CHECK(one.over_seeds.ci.low < one.over_seeds.tau);
    CHECK(one.over_seeds.ci.high > one.over_seeds.tau);
    CHECK(one.methods[0].rank == Approx(13.0 / 9));
    CHECK(one.methods[0].ci.low == Approx(1));         // p alone
    CHECK(one.methods[0].ci.high == Approx(7.0 / 3));  // r alone
  }
  CHECK(ranks.metrics[0].methods[0].value == Approx((1.9 + 2.7 + 1.9) / 9));
  CHECK(ranks.metrics[2].methods[0].value ==
        Approx((7 * 2 * .9 * .8 / 1.7 + 2 * 2 * .1 * .8 / .9) / 9));
  // Nothing is ranked by what all share.
  CHECK(ranks.metrics[1].over_concepts.pairs == 0);
  CHECK(ranks.metrics[1].methods[0].rank == Approx(2));
  const Json json = RanksToJson(ranks);
  CHECK(json.at("metrics")[0].at("over_erase_seeds").at("tau").get<double>() == Approx(1.0 / 3));
  CHECK(json.at("metrics")[1].at("over_concepts").is_null());
}

TEST_CASE("ties share the middle rank, and nothing removed is a harmonic mean of 0") {
  const Ranks ranks = RankMethods({Run(1, 3, {{"p", {.9, .5, .5}}, {"q", {.9, 0, 0}}})}, "none");
  CHECK(ranks.metrics[0].methods[0].rank == Approx(1));
  CHECK(ranks.metrics[0].methods[1].rank == Approx(2.5));
  CHECK(ranks.metrics[0].methods[2].rank == Approx(2.5));
  CHECK(ranks.metrics[2].methods[1].value == Approx(.5 * (2 * .5 * .8 / 1.3)));
  CHECK(ranks.metrics[0].over_seeds.pairs == 0);
  CHECK(ranks.metrics[0].over_concepts.tau == Approx(1));
}

TEST_CASE("who lacks a value is left out and named") {
  Results results = Run(1, 3, kFirst);
  for (Record& record : results.records) {
    if (record.subject == "q" && record.method == "b") record.status = "error";
    if (record.subject == "r") record.status = "unfit_judge";
  }
  const Ranks ranks = RankMethods({Run(2, 3, kFirst), results}, "none");
  CHECK(ranks.methods == std::vector<std::string>{"a", "c"});
  CHECK(ranks.concepts == std::vector<std::string>{"p", "q"});
  CHECK_THAT(ranks.left_out.at("b"), Contains("q"));
  CHECK(ranks.left_out.count("r") == 1);
  CHECK(ranks.left_out.size() == 2);
}

TEST_CASE("removal under another attack") {
  const Ranks ranks = RankMethods({Run(1, 3, kFirst)}, kUnion);
  CHECK(ranks.metrics[0].methods[0].value == 0);
  CHECK_THROWS_WITH(RankMethods({Run(1, 3, kFirst)}, "unoin"),
                    Contains("--attack=unoin") && Contains("union"));
}

TEST_CASE("files that cannot be compared are refused") {
  CHECK_THROWS_AS(RankMethods({}, "none"), UsageError);
  CHECK_THROWS_WITH(RankMethods({Run(1, 3, kFirst), Run(1, 3, kSecond)}, "none"),
                    Contains("erase seed 1 and guidance 3"));
  Results other = Run(2, 3, kFirst);
  other.experiment["sampler"]["steps"] = 50;
  CHECK_THROWS_WITH(RankMethods({Run(1, 3, kFirst), other}, "none"), Contains("'sampler' is"));
  CHECK_THROWS_WITH(RankMethods({Run(1, 3, {{"p", {.9, .5}}})}, "none"),
                    Contains("at least two of each"));
}

}  // namespace
}  // namespace excise
