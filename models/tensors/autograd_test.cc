#include "models/tensors/autograd.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

namespace excise {
namespace {

TEST_CASE("gradients of a polynomial, first and second order, and of what it does not use") {
  const at::Tensor x = at::tensor({2.0, -3.0}).requires_grad_();
  const at::Tensor unused = at::tensor({1.0}).requires_grad_();
  const at::Tensor loss = x.pow(3).sum();
  const auto first = Gradients(loss, {x, unused}, /*retain=*/false, /*create_graph=*/true);
  CHECK(at::equal(first[0].detach(), at::tensor({12.0, 27.0})));
  CHECK_FALSE(first[1].defined());
  CHECK(at::equal(Gradients(first[0].sum(), {x})[0], at::tensor({12.0, -18.0})));
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("a graph lives on only when it is retained") {
  const at::Tensor x = at::tensor({2.0}).requires_grad_();
  const at::Tensor loss = x.exp().sum();
  const at::Tensor first = Gradients(loss, {x}, /*retain=*/true)[0];
  CHECK(at::equal(Gradients(loss, {x})[0], first));
  CHECK_THROWS(Gradients(loss, {x}));
}

TEST_CASE("Backward accumulates into the leaves") {
  const at::Tensor x = at::tensor({2.0}).requires_grad_();
  Backward(x.square().sum());
  Backward(x.square().sum());
  CHECK(x.grad().item<double>() == 8.0);
}

TEST_CASE("NoGrad nests and restores") {
  const at::Tensor x = at::tensor({2.0}).requires_grad_();
  {
    const NoGrad outer;
    { const NoGrad inner; }
    CHECK_FALSE((x * 2).requires_grad());
  }
  CHECK((x * 2).requires_grad());
}

TEST_CASE("autocast computes in bfloat16 with float32 weights, nests and can be switched off") {
  const at::Tensor w = at::ones({2, 3}).requires_grad_();
  const at::Tensor x = at::ones({4, 3});
  auto dtype = [&] { return at::linear(x, w).scalar_type(); };
  {
    const Autocast on(true);
    CHECK(dtype() == at::kBFloat16);
    {
      const Autocast off(false);
      CHECK(dtype() == at::kFloat);
      const Autocast again(true);
      CHECK(dtype() == at::kBFloat16);
    }
    CHECK(dtype() == at::kBFloat16);
  }
  CHECK(dtype() == at::kFloat);
  {
    const Autocast off(false);
    CHECK(dtype() == at::kFloat);
  }
}

TEST_CASE("autocast sees weights that changed since the last scope") {
  const at::Tensor w = at::ones({1, 1}).requires_grad_();
  const at::Tensor x = at::ones({1, 1});
  auto value = [&] {
    const Autocast on(true);
    return at::linear(x, w).item<double>();
  };
  CHECK(value() == 1.0);
  {
    const NoGrad no_grad;
    w.fill_(5.0);
  }
  CHECK(value() == 5.0);
}

TEST_CASE("a forward pass without gradients does not cut later ones within one autocast scope") {
  const at::Tensor w = at::ones({1, 1}).requires_grad_();
  const at::Tensor x = at::ones({1, 1}) * 3;
  const Autocast on(true);
  {
    const NoGrad no_grad;
    at::linear(x, w);
  }
  const at::Tensor gradient = Gradients(at::linear(x, w).sum(), {w})[0];
  REQUIRE(gradient.defined());
  CHECK(gradient.scalar_type() == at::kFloat);
  CHECK(gradient.item<double>() == 3.0);
}

}  // namespace
}  // namespace excise
