// Expected values: by hand, from the formula in core/stats.h; the interval of the six concepts by a
// script in Python 3.11 (200,000 resamples of concepts, then binomial: 0 and 0.5583).
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/stats.h"

namespace excise {
namespace {

Philox Rng() { return Philox({7, "bootstrap", 0, Stream::kData, 0}); }

// values[group][row][column].
using Design = std::vector<std::vector<std::vector<double>>>;

std::vector<NestedValue> Listed(const Design& design) {
  std::vector<NestedValue> values;
  for (size_t g = 0; g < design.size(); ++g) {
    for (size_t r = 0; r < design[g].size(); ++r) {
      for (size_t c = 0; c < design[g][r].size(); ++c) {
        values.push_back({"group" + std::to_string(g), "row" + std::to_string(r),
                          "column" + std::to_string(c), design[g][r][c]});
      }
    }
  }
  return values;
}

Bootstrap Of(const Design& design, int64_t resamples = 40000) {
  Philox rng = Rng();
  return BootstrapNested(Listed(design), rng, resamples);
}

TEST_CASE("balanced groups: the variance of the mean of means", "[stats]") {
  // Groups that are constant: 3, 5 and 10 around 6. S = (9 + 1 + 16) / 3, nothing within.
  const Bootstrap constant = Of({{{3}, {3}}, {{5}, {5}}, {{10}, {10}}});
  CHECK(constant.value == Approx(6));
  CHECK(std::pow(constant.standard_error, 2) == Approx(26.0 / 9).epsilon(0.03));
  // One way: means 2, 5 and 8 around 5, S = 6; within each group 1 to either side, s = 1, of n = 2.
  const Bootstrap one_way = Of({{{1}, {3}}, {{4}, {6}}, {{7}, {9}}});
  CHECK(one_way.value == Approx(5));
  CHECK(std::pow(one_way.standard_error, 2) == Approx((6 + 0.5) / 3).epsilon(0.03));
  // One group: of its rows alone.
  const Bootstrap rows = Of({{{1}, {3}, {4}, {6}}});
  CHECK(rows.value == Approx(3.5));
  CHECK(std::pow(rows.standard_error, 2) == Approx(3.25 / 4).epsilon(0.03));
}

TEST_CASE("columns are drawn for all rows of a group at once", "[stats]") {
  // Row effects 0 and 2 (mean square 1), column effects 0, 3 and 6 (mean square 6): 1/2 + 6/3.
  const Bootstrap crossed = Of({{{0, 3, 6}, {2, 5, 8}}});
  CHECK(crossed.value == Approx(4));
  CHECK(std::pow(crossed.standard_error, 2) == Approx(2.5).epsilon(0.03));
  // Equal columns are as good as one.
  CHECK(std::pow(Of({{{0, 0, 0}, {2, 2, 2}}}).standard_error, 2) == Approx(0.5).epsilon(0.03));
}

TEST_CASE("six concepts that differ: the pooled rate hides how much", "[stats]") {
  // 0, 85, 0, 0, 5 and 65 % of 20 prompts each.
  Design design;
  std::vector<double> pooled;
  for (const int hits : {0, 17, 0, 0, 1, 13}) {
    design.emplace_back();
    for (int i = 0; i < 20; ++i) {
      design.back().push_back({i < hits ? 1.0 : 0.0});
      pooled.push_back(design.back().back()[0]);
    }
  }
  const Bootstrap nested = Of(design, 2000);
  CHECK(nested.value == Approx(31.0 / 120));
  CHECK(nested.ci.low == Approx(0).margin(0.009));
  CHECK(nested.ci.high == Approx(0.5583).margin(0.025));
  const Interval wilson = Wilson(31, 120);
  CHECK(nested.ci.high - nested.ci.low > 3 * (wilson.high - wilson.low));
}

TEST_CASE("groups of unequal size count by their values, and the order of values is nothing",
          "[stats]") {
  std::vector<NestedValue> values = Listed({{{0}, {0}, {0}}, {{1}}});
  Philox first = Rng(), second = Rng();
  const Bootstrap before = BootstrapNested(values, first);
  CHECK(before.value == Approx(0.25));
  std::reverse(values.begin(), values.end());
  const Bootstrap after = BootstrapNested(values, second);
  CHECK(after.ci.low == before.ci.low);
  CHECK(after.ci.high == before.ci.high);
  CHECK(after.standard_error == before.standard_error);
}

TEST_CASE("nothing, and too few resamples, are refused", "[stats]") {
  Philox rng = Rng();
  CHECK_THROWS_AS(BootstrapNested({}, rng), Error);
  CHECK_THROWS_AS(BootstrapNested({{"a", "b", "c", 1}}, rng, 0), Error);
  CHECK_THROWS_AS(BootstrapNested({{"a", "b", "c", 1}}, rng, 10, 1.0), Error);
  CHECK(BootstrapNested({{"a", "b", "c", 1}}, rng, 10).ci.low == 1);
}

TEST_CASE("Holm's adjustment", "[stats]") {
  // Worked by hand: 4 * 0.01, 3 * 0.02, then never below the one before.
  const std::vector<double> adjusted = Holm({0.04, 0.01, 0.02, 0.03});
  REQUIRE(adjusted.size() == 4);
  CHECK(adjusted[1] == Approx(0.04));
  CHECK(adjusted[2] == Approx(0.06));
  CHECK(adjusted[3] == Approx(0.06));
  CHECK(adjusted[0] == Approx(0.06));
  CHECK(Holm({0.9, 0.8}) == std::vector<double>{1, 1});
  CHECK(Holm({0.03}) == std::vector<double>{0.03});
  CHECK(Holm({}).empty());
}

}  // namespace
}  // namespace excise
