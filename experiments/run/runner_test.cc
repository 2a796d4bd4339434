#include "experiments/run/runner.h"

#include <catch2/catch.hpp>

namespace excise {

TEST_CASE("workers that have nothing to do are reported, with the reason") {
  CHECK(TellIdleWorkers(64, 64).empty());
  CHECK(TellIdleWorkers(400, 2).empty());
  CHECK_THAT(TellIdleWorkers(1, 64),
             Catch::StartsWith("63 of 64 workers") && Catch::Contains("units of work: 1") &&
                 Catch::Contains("the number of threads changes the bytes"));
}

}  // namespace excise
