#include "metrics/kernel_distance.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"

namespace excise {

TEST_CASE("kid: two pictures a set, by hand") {
  // width 1, x = 1, 3 and y = 0, 2: k(1,3) = (3 + 1)^3 = 64, k(0,2) = 1, k(1,0) = 1, k(1,2) = 27,
  // k(3,0) = 1, k(3,2) = 343.
  const Features x{{1, 3}, 1}, y{{0, 2}, 1};
  // Paired: (1/2) [2 * 64 + 2 * 1 - 2 (27 + 1)] = 37.
  CHECK(PolynomialMmd2(x, y, MmdEstimator::kPaired).value == 37);
  // Unpaired: 64 + 1 - 2 (1 + 27 + 1 + 343) / 4 = -121.
  CHECK(PolynomialMmd2(x, y, MmdEstimator::kUnpaired).value == -121);
}

TEST_CASE("kid: values of numpy") {
  // x_ij = sin(3 i + j), y_ij = cos(2 i + j), i < 5, j < 3. Unpaired: clean-fid's kernel_distance
  // expression on all rows; paired: a double loop over eq. 4; errors: the same without row i each.
  Features x{{}, 3}, y{{}, 3};
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 3; ++j) {
      x.values.push_back(std::sin(3 * i + j));
      y.values.push_back(std::cos(2 * i + j));
    }
  }
  const Mmd paired = PolynomialMmd2(x, y, MmdEstimator::kPaired);
  CHECK(paired.value == Approx(-0.019496176089807693).epsilon(1e-12));
  CHECK(paired.stderr_ == Approx(0.6222505171410639).epsilon(1e-12));
  const Mmd unpaired = PolynomialMmd2(x, y, MmdEstimator::kUnpaired);
  CHECK(unpaired.value == Approx(-0.21739994207823407).epsilon(1e-12));
  CHECK(unpaired.stderr_ == Approx(0.6648502704606097).epsilon(1e-12));

  // A model compared with itself: exactly 0 by the paired statistic.
  const Mmd same = PolynomialMmd2(x, x, MmdEstimator::kPaired);
  CHECK(same.value == 0);
  CHECK(same.stderr_ == 0);
}

TEST_CASE("kid: unequal or single pictures are refused") {
  const Features one{{1}, 1}, two{{1, 2}, 1}, wide{{1, 2, 3, 4}, 2};
  CHECK_THROWS_AS(PolynomialMmd2(one, one, MmdEstimator::kPaired), Error);
  CHECK_THROWS_AS(PolynomialMmd2(two, one, MmdEstimator::kPaired), Error);
  CHECK_THROWS_AS(PolynomialMmd2(two, wide, MmdEstimator::kPaired), Error);
}

}  // namespace excise
