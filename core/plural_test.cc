#include "core/plural.h"

#include <catch2/catch.hpp>

namespace excise {

TEST_CASE("one is no plural, and nothing is") {
  CHECK(Plural(1, "concept") == "1 concept");
  CHECK(Plural(0, "concept") == "0 concepts");
  CHECK(Plural(2, "concept") == "2 concepts");
  CHECK(Plural(1, "unit of work", "units of work") == "1 unit of work");
  CHECK(Plural(3, "unit of work", "units of work") == "3 units of work");
}

}  // namespace excise
