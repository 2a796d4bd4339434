// Expected values: SciPy 1.17 (binomtest, fisher_exact, sem, norm.ppf) and, for the intervals, a
// Python script that finds the roots of the score equation with brentq and combines them by
// Newcombe's formulae; where a paper prints the number it is named.
#include "core/stats.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"

namespace excise {
namespace {

Philox Rng(uint64_t replicate = 0) { return Philox({7, "bootstrap", replicate, Stream::kData, 0}); }

void CheckInterval(const Interval& found, double low, double high, double margin = 1e-10) {
  CHECK(found.low == Approx(low).margin(margin).epsilon(0));
  CHECK(found.high == Approx(high).margin(margin).epsilon(0));
}

TEST_CASE("Wilson intervals", "[stats]") {
  // ESD under UnlearnDiffAtk, 76.05 % of 142.
  CheckInterval(Wilson(108, 142), 0.684102818572847, 0.8232974817147403);
  // Newcombe, Statistics in Medicine 17:857 (1998), table I, method 3: .2553 to .3662, .0624
  // to .1605, .0061 to .1718.
  CheckInterval(Wilson(81, 263), 0.2552885198782743, 0.3662095769828001);
  CheckInterval(Wilson(15, 148), 0.06238639953073628, 0.16048724172330803);
  CheckInterval(Wilson(1, 29), 0.006113214292762662, 0.17175521879320288);
  CheckInterval(Wilson(0, 10), 0.0, 0.27753279986288926);
  CheckInterval(Wilson(10, 10), 0.7224672001371109, 1.0);
  CheckInterval(Wilson(3, 20, 0.99), 0.03878706050807168, 0.4355867202610557);
  CHECK(Wilson(0, 10).low == 0);
  CHECK(Wilson(10, 10).high == 1);
  CheckInterval(Wilson(0, 0), 0, 1, 0);
  CHECK_THROWS_AS(Wilson(-1, 10), Error);
  CHECK_THROWS_AS(Wilson(11, 10), Error);
  CHECK_THROWS_AS(Wilson(1, 10, 1.0), Error);
}

TEST_CASE("differences of independent rates", "[stats]") {
  // Newcombe, Statistics in Medicine 17:873 (1998), table II, method 10.
  struct Case {
    int64_t k1, n1, k2, n2;
    double value, low, high;
  };
  for (const Case& c : std::vector<Case>{
           {56, 70, 48, 80, 0.2, 0.05243147240236498, 0.333872654036906},
           {9, 10, 3, 10, 0.6, 0.1705227239345029, 0.8090179735354881},
           {6, 7, 2, 7, 0.5714285714285714, 0.0582279274823122, 0.8062496375242277},
           {5, 56, 0, 29, 0.08928571428571429, -0.03813714790353688, 0.19256001385511162},
           {0, 10, 0, 20, 0.0, -0.16112515805281935, 0.27753279986288926},
           {10, 10, 0, 20, 1.0, 0.6790860371419147, 1.0},
           {10, 10, 0, 10, 1.0, 0.6075093504305242, 1.0},
           {108, 142, 113, 142, -0.03521126760563387, -0.13124075488996217, 0.06155807147027427}}) {
    const Difference d = NewcombeIndependent(c.k1, c.n1, c.k2, c.n2);
    CHECK(d.value == Approx(c.value).margin(1e-12));
    CheckInterval(d.ci, c.low, c.high);
  }
  CHECK_THROWS_AS(NewcombeIndependent(0, 0, 1, 2), Error);
}

TEST_CASE("differences of paired rates", "[stats]") {
  struct Case {
    PairedCounts counts;
    double value, low, high;
  };
  for (const Case& c : std::vector<Case>{
           // Bentur et al. 2009 in Fagerland, Lydersen and Laake, Statistics in Medicine 33:2850
           // (2014): -0.286, Newcombe -0.507 to -0.026.
           {{1, 1, 7, 12}, -0.2857142857142857, -0.5069202266861409, -0.02555912416485978},
           {{36, 12, 2, 0}, 0.2, 0.056929584003238914, 0.3404276029749407},   // phi < 0
           {{36, 14, 0, 0}, 0.28, 0.15283951785585742, 0.41665123695956563},  // a margin of 0
           {{2, 12, 2, 34}, 0.2, 0.05370402875238017, 0.3421085391981029},
           {{53, 0, 1, 0}, -0.018518518518518517, -0.09771437488781931, 0.04962166188940399},
           {{20, 12, 2, 16}, 0.2, 0.05615642484174832, 0.32920699540014053},  // phi > 0
           {{90, 5, 12, 35}, -0.04929577464788737, -0.10742535057109173, 0.008832707652001816}}) {
    const Difference d = NewcombePaired(c.counts);
    CHECK(d.value == Approx(c.value).margin(1e-12));
    CheckInterval(d.ci, c.low, c.high);
  }
  CHECK_THROWS_AS(NewcombePaired({0, 0, 0, 0}), Error);
  CHECK_THROWS_AS(NewcombePaired({1, -1, 0, 0}), Error);
}

TEST_CASE("Tango's interval of paired rates", "[stats]") {
  // By tools/equivalence_reference.py, which searches the likelihood and knows no closed form.
  struct Case {
    PairedCounts counts;
    double confidence, low, high;
  };
  for (const Case& c : std::vector<Case>{{{1, 1, 7, 12}, 0.95, -0.517232275, -0.026003035},
                                         {{43, 0, 1, 0}, 0.9, -0.095662426, 0.036516938},
                                         {{0, 0, 0, 120}, 0.9, -0.022049073, 0.022049073},
                                         {{6, 0, 2, 112}, 0.9, -0.049116666, 0.005749891},
                                         {{36, 12, 2, 0}, 0.9, 0.085474384, 0.320413386},
                                         {{30, 17, 5, 948}, 0.9, 0.004581317, 0.020678350},
                                         {{5, 9, 0, 31}, 0.9, 0.120248217, 0.313779821}}) {
    const Difference d = TangoPaired(c.counts, c.confidence);
    CHECK(d.value ==
          static_cast<double>(c.counts.only_first - c.counts.only_second) / c.counts.n());
    CheckInterval(d.ci, c.low, c.high, 1e-8);
    const Difference turned = TangoPaired(
        {c.counts.both, c.counts.only_second, c.counts.only_first, c.counts.neither}, c.confidence);
    CheckInterval(turned.ci, -c.high, -c.low, 1e-8);
  }
  // Where no pair differs, z^2 / (n + z^2) on both sides; where all do, the difference is -1 or 1.
  const double z2 = 1.6448536269514722 * 1.6448536269514722;
  CheckInterval(TangoPaired({7, 0, 0, 0}, 0.9).ci, -z2 / (7 + z2), z2 / (7 + z2));
  CheckInterval(TangoPaired({0, 9, 0, 0}, 0.9).ci, 9 / (9 + z2) - z2 / (9 + z2), 1);
  CHECK_THROWS_AS(TangoPaired({0, 0, 0, 0}), Error);
  CHECK_THROWS_AS(TangoPaired({1, -1, 0, 0}), Error);
}

TEST_CASE("pairs are counted", "[stats]") {
  const PairedCounts c = CountPairs({true, true, true, false, false, false, false},
                                    {true, false, false, true, false, false, false});
  CHECK(c.both == 1);
  CHECK(c.only_first == 2);
  CHECK(c.only_second == 1);
  CHECK(c.neither == 3);
  CHECK(c.n() == 7);
  CHECK_THROWS_AS(CountPairs({true}, {}), Error);
}

TEST_CASE("McNemar's exact test", "[stats]") {
  const auto close = [](double value) { return Approx(value).epsilon(1e-11); };
  CHECK(McNemarExact(1, 7) == close(0.0703125));
  CHECK(McNemarExact(12, 2) == close(0.012939453125));
  CHECK(McNemarExact(0, 6) == close(0.03125));
  CHECK(McNemarExact(30, 55) == close(0.008836205876094518));
  CHECK(McNemarExact(300, 250) == close(0.036578745549102676));
  CHECK(McNemarExact(5, 5) == 1);
  CHECK(McNemarExact(0, 0) == 1);
  CHECK(McNemarExact(4, 5) == 1);
  CHECK(McNemarExact(7, 1) == McNemarExact(1, 7));
  CHECK(McNemarExact(0, 1000000) == 0);  // below the smallest double
  CHECK_THROWS_AS(McNemarExact(-1, 2), Error);
}

TEST_CASE("Fisher's exact test", "[stats]") {
  const auto close = [](double value) { return Approx(value).epsilon(1e-9); };
  // ESD and UCE, 108 and 113 of 142: p = .57; SalUn and AdvUnlearn, 16 and 30: p = .035.
  CHECK(FisherExact(108, 34, 113, 29) == close(0.5680307506571535));
  CHECK(FisherExact(16, 126, 30, 112) == close(0.035460392880256916));
  CHECK(FisherExact(8, 2, 1, 5) == close(0.034965034965034975));
  CHECK(FisherExact(3, 1, 1, 3) == close(0.48571428571428565));  // the tea-tasting lady: 34/70
  CHECK(FisherExact(1000, 9000, 1100, 8900) == close(0.022378874800480137));
  CHECK(FisherExact(10, 0, 0, 10) == close(1.082508822446903e-05));
  CHECK(FisherExact(0, 10, 0, 10) == 1);
  CHECK(FisherExact(0, 0, 0, 0) == 1);
  CHECK(FisherExact(2, 8, 5, 1) == close(FisherExact(8, 2, 1, 5)));  // columns exchanged
  CHECK_THROWS_AS(FisherExact(1, 2, -3, 4), Error);
}

TEST_CASE("mean and standard error", "[stats]") {
  const MeanError m = MeanAndError({1.5, 2, 4, -3, 0.25});
  CHECK(m.mean == Approx(0.95));
  CHECK(m.standard_error == Approx(1.1575836902790224));
  CHECK(m.n == 5);
  CHECK(std::isnan(MeanAndError({3}).standard_error));
  CHECK_THROWS_AS(MeanAndError({}), Error);
}

const std::vector<double> kFirst = {.9, .8, .4, .7, .6, .95, .3, .5, .85, .2, .75, .65};
const std::vector<double> kSecond = {.7, .85, .1, .6, .65, .6, .25, .2, .8, .1, .5, .7};
const std::vector<std::string> kIds = {"a", "a", "b", "b", "c", "d", "d", "d", "e", "e", "f", "f"};

TEST_CASE("the bootstrap of a paired difference agrees with SciPy's", "[stats]") {
  // scipy.stats.bootstrap, percentile, two million resamples: [.0500, .2083], error .04062.
  Philox rng = Rng();
  const Bootstrap b = BootstrapPairedDifference(kFirst, kSecond, {}, rng, 100000);
  CHECK(b.value == Approx(0.12916666666666668));
  CheckInterval(b.ci, 0.05, 0.20833333333333337, 0.0045);  // values lie on a grid of .05 / 12
  CHECK(b.standard_error == Approx(0.04061732124647172).epsilon(0.015));
}

TEST_CASE("the clustered bootstrap agrees with the enumeration of all resamples", "[stats]") {
  // All 6^6 resamples of the six clusters: [.055, .19], error .0355008.
  Philox rng = Rng();
  const Bootstrap b = BootstrapPairedDifference(kFirst, kSecond, kIds, rng, 100000);
  CheckInterval(b.ci, 0.055, 0.19, 0.003);
  CHECK(b.standard_error == Approx(0.035500803390161643).epsilon(0.015));
}

TEST_CASE("copies of a value in one cluster add no information", "[stats]") {
  std::vector<double> values, copies;
  std::vector<std::string> ids;
  for (int i = 0; i < 40; ++i) {
    values.push_back(i % 4 == 0);
    for (int j = 0; j < 5; ++j) {
      copies.push_back(i % 4 == 0);
      ids.push_back("prompt" + std::to_string(i));
    }
  }
  Philox a = Rng(1), b = Rng(2), c = Rng(3);
  const double single = BootstrapMean(values, {}, a).standard_error;
  CHECK(single == Approx(std::sqrt(0.25 * 0.75 / 40)).epsilon(0.04));
  CHECK(BootstrapMean(copies, ids, b).standard_error == Approx(single).epsilon(0.05));
  // Taken as independent the same rows pretend to know sqrt(5) times as much.
  CHECK(BootstrapMean(copies, {}, c).standard_error ==
        Approx(single / std::sqrt(5.0)).epsilon(0.05));
}

TEST_CASE("a stratum keeps its share in every resample", "[stats]") {
  Philox a = Rng(1), b = Rng(2);
  std::vector<double> values;
  std::vector<std::string> strata;
  for (int i = 0; i < 80; ++i) {
    values.push_back(i < 40 ? 0 : i % 2);
    strata.push_back(i < 40 ? "none" : "half");
  }
  const Bootstrap within = BootstrapMean(values, {}, a, 10000, 0.95, strata);
  CHECK(within.value == 0.25);
  // Only the second stratum varies: its mean's error is sqrt(.25 / 40), and it is half of all.
  CHECK(within.standard_error == Approx(std::sqrt(0.25 / 40) / 2).epsilon(0.03));
  const Bootstrap across = BootstrapMean(values, {}, b, 10000);
  CHECK(across.standard_error == Approx(std::sqrt(0.25 * 0.75 / 80)).epsilon(0.03));
  CHECK_THROWS_AS(BootstrapMean({1, 2}, {}, a, 10, 0.95, {"one"}), Error);
}

TEST_CASE("a bootstrap is a function of its stream, not of the order of the rows", "[stats]") {
  Philox a = Rng(), b = Rng(), c = Rng(1);
  const Bootstrap x = BootstrapMean(kFirst, kIds, a, 2000);
  std::vector<double> values(kFirst.rbegin(), kFirst.rend());
  const std::vector<std::string> ids(kIds.rbegin(), kIds.rend());
  const Bootstrap y = BootstrapMean(values, ids, b, 2000);
  CHECK(x.ci.low == y.ci.low);
  CHECK(x.ci.high == y.ci.high);
  CHECK(x.standard_error == y.standard_error);
  CHECK(BootstrapMean(kFirst, kIds, c, 2000).standard_error != x.standard_error);
}

TEST_CASE("degenerate and impossible bootstraps", "[stats]") {
  Philox rng = Rng();
  const Bootstrap same = BootstrapMean({0.5, 0.5, 0.5}, {}, rng, 100);
  CheckInterval(same.ci, 0.5, 0.5, 0);
  // Two values: the mean of a resample is 0, .5 or 1 with 1/4, 1/2, 1/4.
  const Bootstrap two = BootstrapMean({0, 1}, {}, rng, 1000);
  CheckInterval(two.ci, 0, 1, 0);
  const Bootstrap half = BootstrapMean({0, 1}, {}, rng, 1000, 0.4);
  CheckInterval(half.ci, 0.5, 0.5, 0);
  CHECK_THROWS_AS(BootstrapMean({}, {}, rng), Error);
  CHECK_THROWS_AS(BootstrapMean({1, 2}, {"a"}, rng), Error);
  CHECK_THROWS_AS(BootstrapMean({1}, {}, rng, 0), Error);
  CHECK_THROWS_AS(BootstrapPairedDifference({1, 2}, {1}, {}, rng), Error);
}

TEST_CASE("sign-flip tests agree with the enumeration of all signs", "[stats]") {
  // scipy.stats.permutation_test of the samples, exact: 76 of 4,096; of the six clusters 4 of 64.
  Philox rng = Rng();
  constexpr int64_t kDraws = 100000;
  const SignFlipTests single({kFirst, kSecond, kFirst}, {}, rng, kDraws);
  CHECK(single.PValue(0, 1) == Approx(76.0 / 4096).margin(0.0018));  // four standard errors
  CHECK(single.PValue(1, 0) == single.PValue(0, 1));
  CHECK(single.PValue(0, 2) == 1);
  const SignFlipTests clustered({kFirst, kSecond}, kIds, rng, kDraws);
  CHECK(clustered.PValue(0, 1) == Approx(4.0 / 64).margin(0.0031));
}

TEST_CASE("on values of 0 and 1 a sign-flip test is McNemar's", "[stats]") {
  std::vector<double> first(40, 0), second(40, 0);
  for (size_t i = 0; i < 40; ++i) {
    if (i < 13) (i < 10 ? first : second)[i] = 1;  // 10 against 3 discordant pairs
    if (i > 30) first[i] = second[i] = 1;
  }
  Philox rng = Rng();
  const double p = SignFlipTests({first, second}, {}, rng, 100000).PValue(0, 1);
  CHECK(p == Approx(McNemarExact(10, 3)).margin(0.0037));
}

TEST_CASE("few samples prove little, and many draws a lot", "[stats]") {
  Philox rng = Rng();
  // Three that agree: 2 of 8 signs are as far. A bootstrap of them would call its p 0.
  CHECK(SignFlipTests({{1, 2, 3}, {0, 0, 0}}, {}, rng, 20000).PValue(0, 1) ==
        Approx(0.25).margin(0.013));
  const std::vector<double> ones(60, 1), zeros(60, 0);
  CHECK(SignFlipTests({ones, zeros}, {}, rng, 20000).PValue(0, 1) == Approx(1.0 / 20001));
  // Sums that differ by rounding alone are ties.
  CHECK(SignFlipTests({{0.1, 0.2}, {0.3, 0.0}}, {}, rng, 100).PValue(0, 1) == 1);
  CHECK_THROWS_AS(SignFlipTests({{1, 2}, {1}}, {}, rng, 10), Error);
  CHECK_THROWS_AS(SignFlipTests({{}, {}}, {}, rng, 10), Error);
  CHECK_THROWS_AS(SignFlipTests({{1, 2}}, {"a"}, rng, 10), Error);
  CHECK_THROWS_AS(SignFlipTests({{1}, {2}}, {}, rng, 0), Error);
}

TEST_CASE("Kendall's tau-b", "[stats]") {
  const auto tau = [](const std::vector<double>& first, const std::vector<double>& second) {
    return KendallTauB(first, second).value();
  };
  CHECK(tau({1, 2, 3, 4, 5}, {1, 2, 3, 4, 5}) == Approx(1));
  CHECK(tau({1, 2, 3}, {3, 2, 1}) == Approx(-1));
  // scipy.stats.kendalltau (1.17.1): without ties, and with ties on both sides.
  CHECK(tau({1, 2, 3, 4, 5}, {3, 4, 1, 2, 5}) == Approx(0.2));
  CHECK(tau({1, 2, 2, 3, 4}, {1, 3, 2, 2, 5}) == Approx(0.6666666666666666));
  CHECK(tau({.5, .5, .25, 1, 0, .75}, {.5, .25, .25, .75, .75, 1}) == Approx(0.2964997266644405));
  CHECK(tau({12, 2, 1, 12, 2}, {1, 4, 7, 1, 0}) == Approx(-0.4714045207910316));
  CHECK(tau({1, 1, 2, 2}, {1, 2, 1, 2}) == 0);
  CHECK_FALSE(KendallTauB({1, 1, 1}, {1, 2, 3}));
  CHECK_FALSE(KendallTauB({1, 2, 3}, {7, 7, 7}));
  CHECK_FALSE(KendallTauB({1}, {2}));
  CHECK_FALSE(KendallTauB({}, {}));
  CHECK_THROWS_AS(KendallTauB({1, 2}, {1}), Error);
}

TEST_CASE("normal quantiles", "[stats]") {
  CHECK(NormalQuantile(0.975) == Approx(1.959963984540054).epsilon(1e-13));
  CHECK(NormalQuantile(0.995) == Approx(2.5758293035489004).epsilon(1e-13));
  CHECK(NormalQuantile(0.9) == Approx(1.2815515655446004).epsilon(1e-13));
  CHECK(NormalQuantile(1e-10) == Approx(-6.361340902404056).epsilon(1e-13));
  CHECK(NormalQuantile(0.5) == Approx(0).margin(1e-14));
  CHECK_THROWS_AS(NormalQuantile(0), Error);
  CHECK_THROWS_AS(NormalQuantile(1), Error);
}

}  // namespace
}  // namespace excise
