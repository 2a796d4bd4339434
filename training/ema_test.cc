#include "training/ema.h"

#include <ATen/ops/full.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"

namespace excise {
namespace {

TEST_CASE("The window grows to the asked decay") {
  CHECK(Ema::Decay(0.998, 0) == Approx(0.1));
  CHECK(Ema::Decay(0.998, 8) == Approx(0.5));
  CHECK(Ema::Decay(0.998, 1000000) == 0.998);
}

TEST_CASE("Constant weights: the distance shrinks by the product of the decays") {
  at::Tensor p = at::full({2}, 1.0, at::kDouble);
  Ema ema(0.3, {p});
  p.fill_(5.0);
  CHECK(ema.shadow()[0][0].item<double>() == 1.0);
  // Decays: 1/10, 2/11, 3/12, then 4/13 > 0.3 is capped.
  double distance = 4;
  const double decays[] = {1.0 / 10, 2.0 / 11, 3.0 / 12, 0.3, 0.3, 0.3};
  for (const double decay : decays) {
    ema.Update({p});
    distance *= decay;
    CHECK(5.0 - ema.shadow()[0][1].item<double>() == Approx(distance).epsilon(1e-9));
  }
}

TEST_CASE("A resumed average uses the decay of its update") {
  at::Tensor p = at::full({1}, 2.0, at::kDouble);
  Ema ema(0.999, {at::full({1}, 1.0, at::kDouble)});
  ema.Resume(90);  // 91 / 100
  ema.Update({p});
  CHECK(ema.shadow()[0].item<double>() == Approx(0.91 * 1 + 0.09 * 2).epsilon(1e-12));
}

TEST_CASE("Decays outside (0, 1) are refused") {
  CHECK_THROWS_AS(Ema(1.0, {}), UsageError);
  CHECK_THROWS_AS(Ema(-0.5, {}), UsageError);
  CHECK_THROWS_AS(Ema(NAN, {}), UsageError);
}

}  // namespace
}  // namespace excise
