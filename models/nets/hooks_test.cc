#include "models/nets/hooks.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace excise {
namespace {

at::Tensor Full(double value) { return at::full({1, 2, 3}, value, at::kDouble); }

GuidanceBatch Batch(double scale) { return {Full(2), Full(1), scale, 10}; }

}  // namespace

TEST_CASE("default guidance is classifier-free guidance, unconditional stream first") {
  HookRun run;
  const auto rows = run.Rows(Batch(7.5), 0);
  REQUIRE(rows.size() == 2);
  CHECK(at::equal(rows[0], Full(1)));
  CHECK(at::equal(rows[1], Full(2)));
  // 0.5 + 7.5 * (0.75 - 0.5)
  CHECK(at::equal(run.Combine(Batch(7.5), 0, {Full(0.5), Full(0.75)}), Full(2.375)));
}

TEST_CASE("guidance scale 1 needs one stream") {
  HookRun run;
  const auto rows = run.Rows(Batch(1), 0);
  REQUIRE(rows.size() == 1);
  CHECK(at::equal(rows[0], Full(2)));
  CHECK(at::equal(run.Combine(Batch(1), 0, {Full(0.75)}), Full(0.75)));
  CHECK(run.Layers() == nullptr);
  CHECK(at::equal(run.Mix(0, Full(4)), Full(4)));
}

TEST_CASE("more streams need their own Combine") {
  HookRun run;
  CHECK_THROWS_WITH(run.Combine(Batch(3), 0, {Full(1), Full(2), Full(3)}),
                    Catch::Contains("3 streams"));
}

}  // namespace excise
