// The contract of a removal method, run on each one alone, on a model of a few thousand weights.
#include <ATen/ops/all.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>

#include "core/hash.h"
#include "methods/method.h"
#include "models/autograd.h"
#include "tests/contract_common.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

std::string Digest(const StateDict& tensors) {
  Sha256 sha;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor bytes = tensor.detach().contiguous();
    sha.Update(name);
    sha.Update(bytes.data_ptr(), bytes.nbytes());
  }
  return sha.Hex();
}

std::string Digest(const Backbone& model) {
  return Digest(model.text_encoder) + Digest(model.unet) + Digest(model.vae);
}

// Every replacement is a detached tensor of the edited model, and every other tensor is shared.
void CheckSharing(const StateDict& base, const StateDict& edited, const StateDict& erased) {
  REQUIRE(edited.size() == base.size());
  for (const auto& [name, tensor] : erased) {
    INFO(name);
    CHECK(base.Contains(name));
    CHECK_FALSE(tensor.requires_grad());
  }
  for (const auto& [name, tensor] : edited) {
    INFO(name);
    CHECK((tensor.data_ptr() == base.Get(name).data_ptr()) != erased.Contains(name));
  }
}

}  // namespace

TEST_CASE("parameters, presets, card and traits are sound") {
  CheckParams<Method>();
  CheckPresets<Method>();
  CheckCard<Method>();
  const std::vector<std::string> known = {"known_names",   "anchor", "preserve", "target_images",
                                          "unsafe_images", "judge",  "attack",   "training_data"};
  std::vector<std::string> uses =
      Registry<Method>::Get().Make(TheOnlyPlugin<Method>())->traits().uses;
  for (const std::string& use : uses) {
    INFO("uses " << use);
    CHECK(std::find(known.begin(), known.end(), use) != known.end());
  }
  std::sort(uses.begin(), uses.end());
  CHECK(std::adjacent_find(uses.begin(), uses.end()) == uses.end());
}

TEST_CASE("erasing repeats itself and leaves the base model alone") {
  const std::unique_ptr<Method> method = MakeForSmoke<Method>();
  const Backbone base = TinyBackbone(TestFolder("method_contract"));
  const std::string before = Digest(base);
  TinyContext first_context, second_context;
  const Erased first = method->Erase(first_context, base, {TinyConcept()});
  const Erased second = method->Erase(second_context, base, {TinyConcept()});
  CHECK(Digest(base) == before);
  CHECK(Digest(first.text_encoder) == Digest(second.text_encoder));
  CHECK(Digest(first.unet) == Digest(second.unet));
  CHECK(Digest(first.vae) == Digest(second.vae));
  CHECK((first.hooks == nullptr) == (second.hooks == nullptr));
  CHECK(first_context.unet_evaluations == second_context.unet_evaluations);
  CHECK(first_context.gradient_steps == second_context.gradient_steps);

  const Backbone edited = ApplyErased(base, first);  // refuses wrong dtypes, shapes and infinities
  CheckSharing(base.text_encoder, edited.text_encoder, first.text_encoder);
  CheckSharing(base.unet, edited.unet, first.unet);
  CheckSharing(base.vae, edited.vae, first.vae);
}

TEST_CASE("the edited model draws") {
  const std::unique_ptr<Method> method = MakeForSmoke<Method>();
  const Backbone base = TinyBackbone(TestFolder("method_contract"));
  TinyContext context;
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  const Backbone edited = ApplyErased(base, erased);
  const NoGrad no_grad;
  const int64_t length = edited.clip.text.max_position_embeddings;
  const at::Tensor prompts =
      EncodeText(edited, TokenizeBatch(*edited.tokenizer, {"a poodle", "a cat"}, length));
  const at::Tensor empty = EncodeText(edited, TokenizeBatch(*edited.tokenizer, {"", ""}, length));
  at::Tensor latents = at::empty({2, 4, 8, 8}, at::kFloat);
  Philox rng({1, "contract"});
  rng.FillNormal(latents.data_ptr<float>(), latents.numel());
  SamplerSpec spec;
  spec.steps = 3;
  int64_t evaluations = 0;
  const at::Tensor drawn =
      SampleLatents(edited, erased.hooks.get(), prompts, empty, latents, spec, &evaluations);
  CHECK(drawn.sizes() == latents.sizes());
  CHECK(drawn.isfinite().all().item<bool>());
  CHECK(evaluations >= 2 * spec.steps);  // at least one row a picture and step
}

}  // namespace excise
