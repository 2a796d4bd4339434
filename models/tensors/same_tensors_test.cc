#include "models/tensors/same_tensors.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>

namespace excise {

TEST_CASE("sets of tensors are the same by names, sizes and values") {
  StateDict a;
  a.Set("w", at::ones({2, 3}));
  a.Set("b", at::zeros({3}));
  StateDict b = a;
  CHECK(SameTensors(a, b));
  b.Set("w", at::ones({2, 3}));  // another tensor of the same values
  CHECK(SameTensors(a, b));
  b.Set("w", at::ones({3, 2}));
  CHECK_FALSE(SameTensors(a, b));
  b.Set("w", at::ones({2, 3}).mul(1 + 1e-6));
  CHECK_FALSE(SameTensors(a, b));
  b = a;
  b.Set("more", at::zeros({1}));
  CHECK_FALSE(SameTensors(a, b));
  CHECK_FALSE(SameTensors(b, a));
  StateDict c;
  c.Set("w", a.Get("w"));
  c.Set("bias", a.Get("b"));
  CHECK_FALSE(SameTensors(a, c));
}

}  // namespace excise
