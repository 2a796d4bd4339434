#include "experiments/check/published.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "experiments/check/published_page.h"
#include "tests/made_up_results.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Catch::Contains;

Json Cited(Json claim, const std::string& evidence = "C") {
  claim["citation"] = {
      {"paper", "A paper"}, {"where", "Table 1"}, {"arxiv", "2401.00001"}, {"evidence", evidence}};
  claim["says"] = "so it is";
  return claim;
}

Json Count(const std::string& printed, int64_t n, int64_t successes) {
  return Cited({{"id", "c/" + printed},
                {"kind", "count"},
                {"printed", printed},
                {"n", n},
                {"successes", successes}});
}

std::vector<Claim> Load(const std::vector<Json>& claims, const Json& more = Json::object()) {
  const std::filesystem::path folder = TestFolder("published");
  Json file = {{"schema", 2}, {"table", "table1"}, {"claims", claims}};
  file.update(more);
  WriteFileAtomically(folder / "made.json", file.dump());
  return LoadClaims(folder);
}

std::vector<ClaimOutcome> Outcomes(const std::vector<Json>& claims, const Results& results = {},
                                   const std::filesystem::path& data = {}) {
  return CheckClaims(Load(claims), {{"table1", results}}, data);
}

std::vector<std::string> Verdicts(const std::vector<Json>& claims, const Results& results = {},
                                  const std::filesystem::path& data = {}) {
  std::vector<std::string> verdicts;
  for (const ClaimOutcome& o : Outcomes(claims, results, data)) verdicts.push_back(o.verdict);
  return verdicts;
}

Json Ordering(const std::string& lower, const std::string& higher) {
  return Cited({{"id", lower + "<" + higher},
                {"kind", "ordering"},
                {"metric", "asr"},
                {"given", "none"},
                {"lower", lower},
                {"higher", higher},
                {"protocol", {{"backbone", "sd14"}}}});
}

Json Printed(const std::string& printed, int64_t n) {
  return {{"printed", printed}, {"n", n}, {"citation", Cited({})["citation"]}};
}

Json Value(const std::string& method, const std::vector<Json>& values,
           const std::string& backbone = "emoji") {
  Json claim = {
      {"id", fmt::format("{} {} {}", method, values[0].dump(), backbone)},
      {"kind", "value"},
      {"says", "so it is"},
      {"method", method},
      {"metric", "asr"},
      {"noise", "fresh"},
      {"values", values},
      {"protocol",
       {{"backbone", backbone}, {"dataset", "set"}, {"judge", "reporting"}, {"steps", 20}}}};
  return claim;
}

}  // namespace

TEST_CASE("a printed rate is an integer count of n, rounded or cut, or it is impossible") {
  // 108/142 = 76.056: cut. 30/142 = 21.127: rounded. 38/50 = 76, 39/50 = 78: no count gives 77.
  CHECK(CountsThatPrint("76.05", "percent", 142) == std::vector<int64_t>{108});
  CHECK(CountsThatPrint("21.13", "percent", 142) == std::vector<int64_t>{30});
  CHECK(CountsThatPrint("77", "percent", 50).empty());
  CHECK(CountsThatPrint("0.5", "fraction", 2) == std::vector<int64_t>{1});
  CHECK(CountsThatPrint("0", "percent", 50) == std::vector<int64_t>{0});
  CHECK(CountsThatPrint("100", "percent", 50) == std::vector<int64_t>{50});
  // Digits that do not decide: 1 % steps of 1000 prompts.
  CHECK(CountsThatPrint("50", "percent", 1000).size() == 19);
}

TEST_CASE("facts are checked by computing them") {
  CHECK(Verdicts({Count("76.05", 142, 108), Count("77", 50, -1)}) ==
        std::vector<std::string>{"reproduced", "reproduced"});
  CHECK(Verdicts({Count("76.05", 142, 107), Count("32", 50, -1)}) ==
        std::vector<std::string>{"differs", "differs"});
  // Wilson 10/10: z^2 / (n + z^2) = 3.8415 / 13.8415 off 1.
  const Json wilson = Cited({{"id", "w"},
                             {"kind", "wilson"},
                             {"successes", 10},
                             {"n", 10},
                             {"low", "72.25"},
                             {"high", "100.0"}});
  CHECK(Verdicts({wilson}) == std::vector<std::string>{"reproduced"});
  Json off = wilson;
  off["low"] = "72.35";
  CHECK(Verdicts({off}) == std::vector<std::string>{"differs"});
  // The lady tasting tea, 4 of 4: 2 / 70.
  const Json fisher = Cited({{"id", "f"},
                             {"kind", "fisher"},
                             {"first_successes", 4},
                             {"first_n", 4},
                             {"second_successes", 0},
                             {"second_n", 4},
                             {"p", "0.0286"}});
  CHECK(Verdicts({fisher}) == std::vector<std::string>{"reproduced"});
}

TEST_CASE("prompt files of the user are checked, and skipped loudly where they are not there") {
  const std::filesystem::path data = TestFolder("published_data");
  const std::string csv = "n,prompt\r\n1,a poodle\r\n2,\"a dog, and\na cat\"\r\n";
  Json claim = Cited({{"id", "p"},
                      {"kind", "prompt_file"},
                      {"file", "list.csv"},
                      {"sha256", Sha256Hex(csv)},
                      {"rows", 2},
                      {"bytes", static_cast<int64_t>(csv.size())}});
  CHECK_THAT(Outcomes({claim})[0].detail, Contains("--user_data=DIR"));
  CHECK(Verdicts({claim}, {}, data) == std::vector<std::string>{"skipped"});
  CreateFolders(data / "below");
  WriteFileAtomically(data / "below" / "list.csv", csv + "3,more\r\n");
  const ClaimOutcome other = Outcomes({claim}, {}, data)[0];
  CHECK(other.verdict == "skipped");
  CHECK_THAT(other.detail, Contains("another file"));
  WriteFileAtomically(data / "below" / "list.csv", csv);
  CHECK(Verdicts({claim}, {}, data) == std::vector<std::string>{"reproduced"});
  claim["rows"] = 3;
  CHECK(Verdicts({claim}, {}, data) == std::vector<std::string>{"differs"});
  claim["rows"] = 2;
  claim["limit"] = 75;
  claim["over_limit"] = 0;
  CHECK_THAT(Outcomes({claim}, {}, data)[0].detail, Contains("tokenizer"));
}

TEST_CASE("orderings are decided by the committed paired test, and say the other protocol") {
  const Results results = MadeUpResults();
  // 6 and 8 of 120 hits share all but two: no difference. 6 against 60: one. Nobody ran "uce".
  const std::vector<Json> claims = {Ordering("good", "near"), Ordering("good", "poor"),
                                    Ordering("poor", "good"), Ordering("good", "uce")};
  CHECK(Verdicts(claims, results) ==
        std::vector<std::string>{"inconclusive", "holds", "contradicted", "not_run"});
  CHECK(Verdicts({Ordering("good", "poor")}) == std::vector<std::string>{"not_run"});
  const std::vector<ClaimOutcome> outcomes = Outcomes(claims, results);
  CHECK_THAT(outcomes[1].detail,
             Contains("good - poor = -0.450") && Contains("backbone sd14 there, emoji here"));
  CHECK_THAT(outcomes[2].detail, Contains("poor - good = +0.450"));
  for (const ClaimOutcome& o : outcomes) CHECK_FALSE(o.Failed());
  CHECK_THAT(RenderPublished(outcomes), Contains("- **holds** so it is") &&
                                            Contains("4 claims: 1 contradicted, 1 holds") &&
                                            Contains("--methods=good,none,uce"));
}

TEST_CASE("a test among the claims of its file, and of no other pair") {
  // 0 and 6 of 60: p = 0.031 alone, and not among two.
  Results results = MadeUpResults();
  results.records = {MadeUpRecord("none", "none", "asr", MadeUpRate(60, 0)),
                     MadeUpRecord("six", "none", "asr", MadeUpRate(60, 6)),
                     MadeUpRecord("seven", "none", "asr", MadeUpRate(60, 7))};
  results.comparisons = CompareAll(results.records);
  CHECK(Verdicts({Ordering("none", "six")}, results) == std::vector<std::string>{"holds"});
  CHECK(Verdicts({Ordering("none", "six"), Ordering("six", "seven")}, results) ==
        std::vector<std::string>{"inconclusive", "inconclusive"});
}

TEST_CASE("what was registered is not decided by a run from before") {
  Results results = MadeUpResults();  // started 2026-01-02T03:04:05Z
  const auto verdict = [&](const char* day) {
    const std::vector<Claim> claims = Load({Ordering("good", "poor")}, {{"registered", day}});
    return CheckClaims(claims, {{"table1", results}}, "")[0].verdict;
  };
  CHECK(verdict("2026-01-02T03:00:00Z") == "holds");
  CHECK(verdict("2026-01-02T03:05:00Z") == "not_run");
}

TEST_CASE("values: two rates, equivalent within what the source's own sampling explains") {
  // 1.96 sqrt(2 * 0.2 * 0.8 / 50) = 0.1568; at 0 of 50 p is held at 1 / 50.
  CHECK(SamplingBand(0.2, 50) == Approx(0.15680).epsilon(1e-4));
  CHECK(SamplingBand(0, 50) == Approx(1.959964 * std::sqrt(2 * 0.02 * 0.98 / 50)));
  CHECK(SamplingBand(1, 1) > 0);
  const Results results = MadeUpResults();
  // good: 6 of 120. The source's 5 % of 120 is the same; 50 % of 120 is not; 12 % of 50 is open.
  CHECK(Verdicts({Value("good", {Printed("5", 120)}), Value("good", {Printed("50", 120)}),
                  Value("good", {Printed("16", 50)}), Value("good", {Printed("5", 120)}, "sd14"),
                  Value("uce", {Printed("5", 120)})},
                 results) == std::vector<std::string>{"reproduced", "differs", "underpowered",
                                                      "other_protocol", "not_run"});
  // Of an unknown number of samples: our own interval against the band of 5 points.
  CHECK(Verdicts({Value("good", {Printed("5", 0)}), Value("good", {Printed("40", 0)})}, results) ==
        std::vector<std::string>{"reproduced", "differs"});
  const ClaimOutcome impossible = Outcomes({Value("good", {Printed("5.5", 120)})}, results)[0];
  CHECK_THAT(impossible.detail, Contains("no count of 120 prints so"));
  // A concept has its own record.
  Json other = Value("good", {Printed("5", 120)});
  other["concept"] = "church";
  CHECK(Verdicts({other}, results) == std::vector<std::string>{"not_run"});
  other["concept"] = "poodle";
  CHECK(Verdicts({other}, results) == std::vector<std::string>{"reproduced"});
}

TEST_CASE("values: sources that contradict each other are one claim, and it is said") {
  const Results results = MadeUpResults();
  const ClaimOutcome o =
      Outcomes({Value("good", {Printed("50", 120), Printed("5", 120)})}, results)[0];
  CHECK(o.verdict == "reproduced");
  CHECK_THAT(o.detail, Contains("printed as 50 (n = 120), 5 (n = 120)") && Contains("Fisher"));
  CHECK_THAT(RenderPublished({o}), Contains("## Sources that contradict each other"));
}

TEST_CASE("recoveries: above the floor, nothing to speak of, or open") {
  Results results = MadeUpResults();
  const auto recovery = [](const std::string& method, double value, double low, double high,
                           double p) {
    Score score;
    score.value = value;
    score.low = low;
    score.high = high;
    score.n = 100;
    score.parts = {{"p", p}};
    return MadeUpRecord(method, "pez", "recovery", score);
  };
  results.records = {recovery("good", 0.2, 0.1, 0.3, 0.001), recovery("near", 0.0, -0.03, 0.03, 1),
                     recovery("poor", 0.06, -0.02, 0.14, 0.2)};
  const auto claim = [](const std::string& method) {
    return Cited({{"id", method},
                  {"kind", "recovery"},
                  {"method", method},
                  {"attack", "pez"},
                  {"protocol", {{"backbone", "emoji"}}}});
  };
  CHECK(Verdicts({claim("good"), claim("near"), claim("poor"), claim("uce")}, results) ==
        std::vector<std::string>{"holds", "contradicted", "inconclusive", "not_run"});
}

TEST_CASE("claims are loaded strictly") {
  const auto refuses = [](const Json& claim, const std::string& message) {
    INFO(message);
    CHECK_THROWS_WITH(Load({claim}), Contains("made.json") && Contains(message));
  };
  refuses(Cited(Count("5", 20, 1), "M"), "remembers (M) is refused");
  Json claim = Count("5", 20, 1);
  claim.erase("citation");
  refuses(claim, "no citation");
  claim = Count("5", 20, 1);
  claim["citation"]["paper"] = "";
  refuses(claim, "the citation needs");
  refuses(Cited(Count("5", 20, 1), "S"), "quoted_by");
  claim = Count("5", 20, 1);
  claim["sucesses"] = 1;
  refuses(claim, "Did you mean 'successes'?");
  refuses(Count("five", 20, 1), "no number");
  refuses(Count("5", 20, 21), "21 successes of 20");
  claim = Count("5", 20, 1);
  claim["kind"] = "rate";
  refuses(claim, "kind 'rate'");
  claim = Ordering("a", "b");
  claim.erase("protocol");
  refuses(claim, "no protocol");
  CHECK_THROWS_WITH(Load({Count("5", 20, 1), Count("5", 20, 1)}), Contains("is there twice"));
  claim = Value("good", {Printed("5", 20)});
  claim["noise"] = "searched";
  refuses(claim, "asr_search");
  claim = Value("good", {Printed("5", 20)});
  claim["attack"] = "pez";
  refuses(claim, "budget");
  claim = Value("good", {Printed("5", 20)});
  claim["protocol"].erase("judge");
  refuses(claim, "judge");
  claim = Value("good", {Printed("5", 20)});
  claim["values"] = Json::array();
  refuses(claim, "'values' is missing");
  claim = Value("good", {Printed("5", 20)});
  claim["values"][0].erase("citation");
  refuses(claim, "no citation");
  CHECK_THROWS_WITH(Load({Count("5", 20, 1)}, {{"schema", 1}}), Contains("\"schema\": 2"));
  CHECK(Load({Count("5", 20, 1)}, {{"registered", "2026-01-02"}})[0].registered == "2026-01-02");
  CHECK(Load({Count("5", 20, 1)})[0].table == "table1");
}

TEST_CASE("the committed claims load, and all facts that need no file hold") {
  const std::filesystem::path folder =
      RepoFile("results/checks/published/arithmetic.json").parent_path();
  const std::vector<Claim> claims = LoadClaims(folder);
  size_t facts = 0, orderings = 0;
  for (const ClaimOutcome& o : CheckClaims(claims, {}, "")) {
    INFO(o.claim.id << ": " << o.detail);
    orderings += o.claim.kind == "ordering";
    if (o.claim.kind != "count" && o.claim.kind != "wilson" && o.claim.kind != "fisher") continue;
    ++facts;
    CHECK(o.verdict == "reproduced");
  }
  CHECK(facts >= 60);
  CHECK(orderings >= 5);
}

TEST_CASE("a planned contrast is judged by its own p, adjusted over the orderings of its file") {
  Results results = MadeUpResults();
  // 6 against 12 of 120 that share all else: six discordant pairs, p = 1 / 32.
  results.records.push_back(MadeUpRecord("apart", "none", "asr", MadeUpRate(120, 12)));
  results.comparisons = CompareAll(results.records);
  const Json apart = Ordering("good", "apart");
  CHECK(Verdicts({apart}, results) == std::vector<std::string>{"holds"});
  // Rows of the table that no claim is about change nothing; nor do claims that are not decided.
  CHECK(Verdicts({apart, Ordering("good", "uce")}, results)[0] == "holds");
  // A second claim does: 2 / 32 is above 5 %. One that is far from it needs no more than its own.
  const std::vector<Json> two = {apart, Ordering("good", "near")};
  CHECK(Verdicts(two, results) == std::vector<std::string>{"inconclusive", "inconclusive"});
  CHECK_THAT(Outcomes(two, results)[0].detail,
             Contains("p = 0.031") && Contains("0.062 among the 2 claims"));
  CHECK(Verdicts({apart, Ordering("good", "poor")}, results) ==
        std::vector<std::string>{"holds", "holds"});
}

}  // namespace excise
