// Reference values: torch 2.11.0 (tools/make_training_fixtures.py).
#include "training/losses.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

TEST_CASE("Losses equal torch's") {
  const StateDict f = LoadSafetensors(RepoFile("tests/fixtures/training.safetensors"));
  const at::Tensor image = f.Get("losses.image"), text = f.Get("losses.text");
  const at::Tensor scale = f.Get("losses.scale");
  const at::Tensor contrastive = ContrastiveLosses(image, text, scale);
  CHECK(contrastive.sizes() == at::IntArrayRef({6}));
  CHECK(contrastive.mean().item<double>() ==
        Approx(f.Get("losses.contrastive").item<double>()).epsilon(1e-6));
  CHECK(CosineDistances(image, text).allclose(f.Get("losses.cosine"), 1e-5, 1e-6));
  CHECK(KlLosses(f.Get("losses.mean"), f.Get("losses.logvar"))
            .allclose(f.Get("losses.kl"), 1e-5, 1e-6));
  const at::Tensor logits =
      at::matmul(image / image.norm(2, {1}, true), (text / text.norm(2, {1}, true)).t()) * scale;
  CHECK(CrossEntropyLosses(logits, at::arange(6), 0.1)
            .allclose(f.Get("losses.smoothed"), 1e-5, 1e-6));
}

TEST_CASE("Losses by hand") {
  // Equal embeddings everywhere: every one of n candidates is as likely, log n.
  const at::Tensor same = at::ones({4, 3});
  CHECK(ContrastiveLosses(same, same, at::tensor(100.0)).mean().item<double>() ==
        Approx(std::log(4.0)));
  const at::Tensor a = at::tensor({1.0, 2.0, 3.0, 4.0}).view({2, 2});
  const at::Tensor b = at::tensor({1.0, 4.0, 0.0, 0.0}).view({2, 2});
  CHECK(MseLosses(a, b).equal(at::tensor({2.0, 12.5}).to(a.scalar_type())));
  CHECK(L1Losses(a, b).equal(at::tensor({1.0, 3.5}).to(a.scalar_type())));
  CHECK(MseLosses(a.view({4}), b.view({4})).sum().item<double>() == Approx(29.0));
  CHECK(KlLosses(at::zeros({2, 3}), at::zeros({2, 3})).equal(at::zeros({2})));
  CHECK(KlLosses(at::ones({1, 3}), at::zeros({1, 3})).item<double>() == Approx(1.5));
}

TEST_CASE("Both directions of the contrastive loss have a gradient, the scale too") {
  const StateDict f = LoadSafetensors(RepoFile("tests/fixtures/training.safetensors"));
  at::Tensor image = f.Get("losses.image").clone().set_requires_grad(true);
  at::Tensor text = f.Get("losses.text").clone().set_requires_grad(true);
  at::Tensor scale = f.Get("losses.scale").clone().set_requires_grad(true);
  const auto loss = [&](const at::Tensor& s) { return ContrastiveLosses(image, text, s).mean(); };
  const std::vector<at::Tensor> gradients = Gradients(loss(scale), {image, text, scale});
  const double h = 1e-2;
  const double slope =
      (loss(scale.detach() + h).item<double>() - loss(scale.detach() - h).item<double>()) / (2 * h);
  CHECK(gradients[2].item<double>() == Approx(slope).epsilon(1e-2));
  // The loss ignores length, so the gradient stands at right angles to every embedding.
  CHECK((gradients[0] * image.detach()).sum(1).abs().max().item<double>() < 1e-6);
  CHECK((gradients[1] * text.detach()).sum(1).abs().max().item<double>() < 1e-6);
  CHECK(gradients[0].abs().max().item<double>() > 1e-3);
  CHECK(gradients[1].abs().max().item<double>() > 1e-3);
}

TEST_CASE("Shapes that would broadcast are refused") {
  CHECK_THROWS_AS(MseLosses(at::ones({4, 3}), at::ones({1, 3})), Error);
  CHECK_THROWS_AS(L1Losses(at::ones({4}), at::ones({4, 1})), Error);
  CHECK_THROWS_AS(CosineDistances(at::ones({4, 3}), at::ones({3})), Error);
  CHECK_THROWS_AS(ContrastiveLosses(at::ones({4, 3}), at::ones({5, 3}), at::tensor(1.0)), Error);
}

}  // namespace
}  // namespace excise
