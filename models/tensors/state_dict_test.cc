#include "models/tensors/state_dict.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <limits>

#include "core/error.h"

namespace excise {
namespace {

TEST_CASE("a copy shares every tensor and Set swaps one of one copy") {
  StateDict base;
  base.Set("a", at::ones({2}));
  base.Set("b", at::ones({2}));
  StateDict edited = base;
  edited.Set("a", at::zeros({2}));
  CHECK(edited.Get("b").data_ptr() == base.Get("b").data_ptr());
  CHECK(edited.Get("a").data_ptr() != base.Get("a").data_ptr());
  CHECK(at::equal(base.Get("a"), at::ones({2})));
}

TEST_CASE("Merge adds and replaces") {
  StateDict a, b;
  a.Set("x", at::zeros({1}));
  a.Set("y", at::zeros({1}));
  b.Set("y", at::ones({1}));
  b.Set("z", at::ones({1}));
  a.Merge(b);
  CHECK(a.size() == 3);
  CHECK(a.Get("x").item<double>() == 0);
  CHECK(a.Get("y").is_same(b.Get("y")));
  CHECK(a.Contains("z"));
}

TEST_CASE("a missing tensor is named together with the nearest one") {
  StateDict weights;
  weights.Set("down_blocks.0.resnets.0.conv1.weight", at::ones({1}));
  weights.Set("mid_block.attentions.0.norm.weight", at::ones({1}));
  CHECK_THROWS_AS(weights.Get("conv_in.weight"), Error);
  CHECK_THROWS_WITH(weights.Get("down_blocks.0.resnets.0.conv2.weight"),
                    Catch::Contains("'down_blocks.0.resnets.0.conv2.weight'") &&
                        Catch::Contains("'down_blocks.0.resnets.0.conv1.weight'"));
  CHECK_THROWS_AS(StateDict().Get("x"), Error);
}

TEST_CASE("ToHalf rounds float32, keeps other types and refuses what does not fit") {
  StateDict weights;
  weights.Set("w", at::tensor({1.0f, 65504.0f, 1.0f / 3}).requires_grad_());
  weights.Set("ids", at::ones({2}, at::kLong));
  const StateDict half = ToHalf(weights);
  CHECK(half.Get("w").scalar_type() == at::kHalf);
  CHECK_FALSE(half.Get("w").requires_grad());
  CHECK(half.Get("w")[1].item<double>() == 65504.0);
  CHECK(half.Get("w")[2].item<double>() == 0.333251953125);  // 1365 / 4096, nearest in float16
  CHECK(half.Get("ids").is_same(weights.Get("ids")));
  for (float bad : {65520.0f, -1e5f, std::numeric_limits<float>::quiet_NaN()}) {
    StateDict broken = weights;
    broken.Set("layer.bad", at::full({1}, bad));
    CHECK_THROWS_WITH(ToHalf(broken), Catch::Contains("'layer.bad'"));
  }
}

}  // namespace
}  // namespace excise
