#include "experiments/results/comparisons.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "core/stats.h"
#include "tests/made_up_results.h"

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

TEST_CASE("a row of which pictures are missing is not compared: it could leave out what fails") {
  Results results = MadeUpResults();
  for (Record& record : results.records) {
    if (record.method == "good" && record.attack == "none") record.denominators["missing"] = 1;
  }
  const std::vector<Comparison> tests = CompareAll(results.records);
  for (const Comparison& c : tests) {
    if (c.over == "methods" && c.given == "none") CHECK((c.first != "good" && c.second != "good"));
    if (c.over == "attacks") CHECK(c.given != "good");
  }
  CHECK(FindComparison(tests, "asr", "", "methods", "pez", "near", "good") != nullptr);
}

TEST_CASE("rates are equivalent where the 90 % interval lies within 5 points, and scores never") {
  Results results = MadeUpResults();
  const auto find = [&](const char* first, const char* second) {
    return *FindComparison(results.comparisons, "asr", "", "methods", "none", first, second);
  };
  // Two of 120 pairs differ, all one way: Tango's interval is -0.0491 to 0.0057.
  REQUIRE(find("good", "near").ci90);
  CHECK(find("good", "near").ci90->low == Approx(-0.049116665909));
  CHECK(IsEquivalent(find("good", "near")));
  CHECK_FALSE(IsSignificant(find("good", "near")));
  CHECK_FALSE(IsEquivalent(find("good", "poor")));
  CHECK(IsSignificant(find("good", "poor")));
  CHECK(ComparisonToJson(find("good", "near")).at("ci90").size() == 2);
  for (Record& record : results.records) record.traits.unit = "cosine";
  results.comparisons = CompareAll(results.records);
  CHECK_FALSE(find("good", "near").ci90);
  CHECK_FALSE(IsEquivalent(find("good", "near")));
  CHECK_FALSE(ComparisonToJson(find("good", "near")).contains("ci90"));
}

TEST_CASE("rates over several pictures a prompt are no closer than as many prompts can show") {
  const auto compare = [](int64_t prompts, int64_t differing) {
    std::vector<Record> records;
    for (const char* method : {"a", "b"}) {
      std::vector<Observation> observations;
      for (int64_t i = 0; i < 2 * prompts; ++i) {
        const bool hit = method[0] == 'b' && i < differing;
        observations.push_back(
            {fmt::format("poodle/target/set@0/{:03}#{}", i / 2, i % 2), hit ? 1.0 : 0.0});
      }
      records.push_back(MadeUpRecord(method, "none", "asr", MeanScore(observations)));
    }
    return CompareAll(records).at(0);
  };
  // No picture differs, so the bootstrap has no width: z^2 / (n + z^2) of n prompts takes its
  // place.
  const double z2 = 1.6448536269514722 * 1.6448536269514722;
  CHECK(compare(51, 0).test == "sign_flip");
  CHECK(compare(51, 0).ci90->high == Approx(z2 / (51 + z2)));
  CHECK_FALSE(IsEquivalent(compare(51, 0)));
  CHECK(IsEquivalent(compare(52, 0)));
  // Half of the prompts differ: the bootstrap alone decides.
  const Comparison apart = compare(60, 60);
  CHECK(apart.ci90->low > apart.low);
  CHECK(apart.ci90->high < apart.high);
  CHECK_FALSE(IsEquivalent(apart));
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

TEST_CASE("scores that are no rates are compared by sign flips, and costs not at all") {
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
  CHECK(comparisons[0].test == "sign_flip");
  CHECK(comparisons[0].difference == Approx(0.5));
  CHECK(comparisons[0].p < 0.01);
  CHECK(comparisons[1].part == "near");
}

namespace {

// `values(i)` of 40 samples.
template <class F>
Record Scores(const std::string& method, const F& values, int skipped = -1) {
  std::vector<Observation> observations;
  for (int i = 0; i < 40; ++i) {
    if (i != skipped) {
      observations.push_back({fmt::format("poodle/near/set@0/{:02}#0", i), values(i)});
    }
  }
  Record record = MadeUpRecord(method, "none", "clip_score", MeanScore(observations));
  record.traits.group = "retention";
  record.traits.sample_groups = {"near"};
  return record;
}

}  // namespace

TEST_CASE("a clear difference stays clear among many rows") {
  std::vector<Record> records;
  for (int row = 0; row < 24; ++row) {
    const double shift = row == 0 ? 0.5 : 0;
    records.push_back(Scores(fmt::format("row{}", row),
                             [&](int i) { return shift + 0.01 * ((i * 7 + row) % 5); }));
  }
  int told_apart = 0;
  for (const Comparison& c : CompareAll(records)) told_apart += IsSignificant(c);
  CHECK(told_apart == 23);  // the first row from all others
}

TEST_CASE("rows with other samples are compared on those that both have") {
  const auto low = [](int i) { return 0.01 * i; };
  const auto high = [](int i) { return 0.01 * i + (i % 3 == 0 ? -0.01 : 0.02); };
  const std::vector<Comparison> whole = CompareAll({Scores("a", low), Scores("b", high)});
  const std::vector<Comparison> mixed =
      CompareAll({Scores("a", low), Scores("b", high, 3), Scores("c", low, 5)});
  REQUIRE(whole.size() == 1);
  REQUIRE(mixed.size() == 3);
  CHECK(whole[0].n == 40);
  CHECK(mixed[0].n == 39);
  CHECK(mixed[2].n == 38);
  // 26 of .02 and 13 of -.01 against all signs: far out, and the same for c, which is a's copy.
  CHECK(mixed[0].p < 0.005);
  CHECK(mixed[1].p == 1);
  CHECK(mixed[2].p < 0.005);
}

TEST_CASE("a row that is added changes no other comparison") {
  // Rates with attacks, and so many rows of scores that a family's size would tell; the new row has
  // numbers of its own, and in scores lacks a sample that all others have.
  std::vector<Record> records = MadeUpResults().records;
  for (int row = 0; row < 9; ++row) {
    records.push_back(Scores(fmt::format("row{}", row),
                             [&](int i) { return 0.01 * ((i * (row + 3)) % 11) + 0.004 * row; }));
  }
  const auto written = [](const std::vector<Record>& of) {
    std::vector<std::string> lines;
    for (const Comparison& c : CompareAll(of)) {
      if (c.first != "new" && c.second != "new" && c.given != "new") {
        lines.push_back(ComparisonToJson(c).dump());
      }
    }
    return lines;
  };
  const std::vector<std::string> before = written(records);
  CHECK(before.size() == 2 * 6 + 4 + 36);
  std::vector<Record> more;
  more.push_back(MadeUpRecord("new", "none", "asr", MadeUpRate(120, 7, 3)));
  more.push_back(MadeUpRecord("new", "pez", "asr", MadeUpRate(120, 40, 50)));
  more.push_back(Scores(
      "new", [](int i) { return 0.013 * (i % 9); }, 5));
  CHECK(CompareAll(more).size() == 1);
  // Before all others or behind them.
  std::vector<Record> first = more, last = records;
  first.insert(first.end(), records.begin(), records.end());
  last.insert(last.end(), more.begin(), more.end());
  CHECK(CompareAll(last).size() == before.size() + 2 * 4 + 1 + 9);
  CHECK(written(last) == before);
  std::vector<std::string> sorted = before, of_first = written(first);
  std::sort(sorted.begin(), sorted.end());
  std::sort(of_first.begin(), of_first.end());
  CHECK(of_first == sorted);
}

namespace {

// The same sample under edits with these seeds; "" for a method of one edit.
Record OfEdits(const std::string& method, const std::vector<std::string>& edits,
               const std::vector<double>& values) {
  std::vector<Observation> observations;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string& edit = edits[i % edits.size()];
    observations.push_back(
        {fmt::format("poodle/target/set@0/{:03}#0{}", i / edits.size(), edit), values[i]});
  }
  return MadeUpRecord(method, "none", "asr", MeanScore(observations));
}

}  // namespace

TEST_CASE("edits are paired by seed, and each with the sample of a method of one edit") {
  // Two prompts. Per prompt: "trained" shows it in 1 of 2 edits, then in both; "closed" in none.
  const Record trained = OfEdits("trained", {"@1", "@2"}, {1, 0, 1, 1});
  const Record other = OfEdits("other", {"@1", "@2"}, {0, 0, 1, 0});
  const Record closed = OfEdits("closed", {""}, {0, 0});
  for (const bool turned : {false, true}) {
    const std::vector<Record> records =
        turned ? std::vector<Record>{closed, other, trained} : std::vector{trained, other, closed};
    const std::vector<Comparison> tests = CompareAll(records);
    const Comparison* once =
        FindComparison(tests, "asr", "", "methods", "none", "trained", "closed");
    REQUIRE(once != nullptr);
    CHECK(once->n == 4);
    CHECK(once->test == "sign_flip");
    CHECK(once->difference == Approx(turned ? -0.75 : 0.75));
    // Two clusters that agree: signs alike in half of the draws.
    CHECK(once->p == Approx(0.5).margin(0.05));
    const Comparison* edits =
        FindComparison(tests, "asr", "", "methods", "none", "trained", "other");
    REQUIRE(edits != nullptr);
    CHECK(edits->n == 4);
    CHECK(edits->difference == Approx(turned ? -0.5 : 0.5));
  }
}

}  // namespace excise
