#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "methods/method.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {

TEST_CASE("retrained: every U-Net tensor comes from the folder, nothing else changes") {
  const Backbone base = TinyBackbone(TestFolder("retrained"));
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("retrained");
  TinyContext context;
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  const StateDict stored =
      LoadSafetensors(base.folder / "retrained" / "unet" / "diffusion_pytorch_model.safetensors");
  REQUIRE(erased.unet.size() == base.unet.size());
  for (const auto& [name, tensor] : stored) CHECK(tensor.equal(erased.unet.Get(name)));
  CHECK(erased.text_encoder.size() == 0);
  CHECK(erased.vae.size() == 0);
}

TEST_CASE("retrained: a backbone without the folder, or with half of it, is refused") {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("retrained");
  TinyContext context;
  Backbone base = TinyBackbone();
  base.folder = TestFolder("not_retrained");
  CHECK_THROWS_WITH(method->Erase(context, base, {TinyConcept()}),
                    Catch::Contains("retrained/unet") && Catch::Contains("no such folder"));
  std::filesystem::create_directories(base.folder / "retrained" / "unet");
  StateDict half;
  half.Set(base.unet.begin()->first, base.unet.begin()->second);
  SaveSafetensors(base.folder / "retrained" / "unet" / "diffusion_pytorch_model.safetensors", half);
  CHECK_THROWS_WITH(method->Erase(context, base, {TinyConcept()}), Catch::Contains("is missing"));
}

TEST_CASE("ApplyErased refuses tensors that do not fit") {
  const Backbone base = TinyBackbone();
  Erased erased;
  erased.unet.Set("no.such.tensor", base.unet.begin()->second);
  CHECK_THROWS_WITH(ApplyErased(base, erased), Catch::Contains("no.such.tensor"));
  erased = {};
  const auto& [name, tensor] = *base.unet.begin();
  erased.unet.Set(name, tensor.to(at::kDouble));
  CHECK_THROWS_WITH(ApplyErased(base, erased), Catch::Contains("float32"));
  erased.unet.Set(name, tensor.mul(0).log());
  CHECK_THROWS_WITH(ApplyErased(base, erased), Catch::Contains("not finite"));
}

}  // namespace excise
