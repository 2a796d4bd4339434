// The contract of a removal method, run on each one alone, on a model of a few thousand weights.
#include <ATen/ops/all.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>

#include "core/text.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/contract_common.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

std::string Digest(const Backbone& model) {
  return DigestOf(model.text_encoder) + DigestOf(model.unet) + DigestOf(model.vae);
}

std::string Digest(const Erased& erased) {
  return DigestOf(erased.text_encoder) + DigestOf(erased.unet) + DigestOf(erased.vae) +
         DigestOf(erased.hook_state);
}

// A method that takes the user's tensors gets one of TinyBackbone, changed.
std::unique_ptr<Method> Smoke() {
  const std::filesystem::path file = TestFolder("method_files") / "edit.safetensors";
  StateDict edit;
  edit.Set("unet.conv_in.bias", TinyBackbone().unet.Get("conv_in.bias").add(0.5));
  SaveSafetensors(file, edit);
  return MakeForSmoke<Method>({{"tensors", file.string()}});
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

// What is declared before the work is what was counted after it.
void CheckWork(const Method& method, const TinyContext& counted) {
  double evaluations = 0, gradients = 0;
  for (const Passes& passes : method.work()) {
    CHECK(passes.calls > 0);
    CHECK(passes.rows > 0);
    const bool gradient = passes.pass == Pass::kUNetGradient || passes.pass == Pass::kTextGradient;
    if (gradient) gradients += passes.calls;
    if (passes.pass == Pass::kUNet || passes.pass == Pass::kUNetGradient) {
      evaluations += passes.calls * passes.rows;
    }
  }
  if (gradients > 0) CHECK(gradients == Approx(counted.gradient_steps).epsilon(0.5));
  CHECK(evaluations == Approx(counted.unet_evaluations).epsilon(0.5));
}

// What the result depends on is declared, for its key is made before the work is done.
void CheckAsked(const MethodTraits& traits, const TinyContext& context) {
  CHECK(context.asked_pictures == traits.base_pictures);
  CHECK(context.asked_stream == traits.seeded);
  CHECK(context.asked.size() == traits.prompts.size());
  for (const auto& [group, limit] : context.asked) {
    INFO(limit << " prompts of " << group);
    const auto declared = traits.prompts.find(group);
    REQUIRE(declared != traits.prompts.end());
    CHECK(limit <= declared->second);
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
    CHECK(IsOneOf(use, known));
  }
  std::sort(uses.begin(), uses.end());
  CHECK(std::adjacent_find(uses.begin(), uses.end()) == uses.end());
}

TEST_CASE("erasing repeats itself and leaves the base model alone") {
  const std::unique_ptr<Method> method = Smoke();
  const Backbone base = TinyBackbone(TestFolder("method_contract"));
  const std::string before = Digest(base);
  TinyContext first_context, second_context;
  const Erased first = method->Erase(first_context, base, {TinyConcept()});
  const Erased second = method->Erase(second_context, base, {TinyConcept()});
  CHECK(Digest(base) == before);
  CHECK(Digest(first) == Digest(second));
  CHECK((first.hooks == nullptr) == (second.hooks == nullptr));
  CHECK(first_context.unet_evaluations == second_context.unet_evaluations);
  CHECK(first_context.gradient_steps == second_context.gradient_steps);
  // One that does not draw is the same with every erase seed, so it is erased once for all.
  TinyContext other_seed(2);
  const std::string with_other = Digest(method->Erase(other_seed, base, {TinyConcept()}));
  if (!method->traits().seeded) CHECK(with_other == Digest(first));
  CheckWork(*method, first_context);
  CheckAsked(method->traits(), first_context);
  // What a filter alone is, draws what the unmodified model draws.
  const Acts acts = method->traits().acts;
  CHECK((acts == Acts::kOnPictures) == (first.hooks != nullptr && first.hooks->OnlyFilters()));
  if (acts == Acts::kByWeights) CHECK(first.hooks == nullptr);

  const Backbone edited = ApplyErased(base, first);  // refuses wrong dtypes, shapes and infinities
  CheckSharing(base.text_encoder, edited.text_encoder, first.text_encoder);
  CheckSharing(base.unet, edited.unet, first.unet);
  CheckSharing(base.vae, edited.vae, first.vae);
}

TEST_CASE("a method reads of a concept what it declares, and remembers none") {
  const std::unique_ptr<Method> method = Smoke();
  const Backbone base = TinyBackbone(TestFolder("method_contract"));
  const auto erase_all = [&](const std::vector<Concept>& subjects) {
    TinyContext context;
    return Digest(method->Erase(context, base, subjects));
  };
  const auto erase = [&](const Concept& subject) { return erase_all({subject}); };
  const std::vector<std::string> uses = method->traits().uses;
  const auto declares = [&](const char* use) { return IsOneOf(use, uses); };
  const std::string expected = erase(TinyConcept());

  Concept another = TinyConcept();
  another.name = "panda";
  another.known = {"cat"};
  const std::string of_another = erase(another);  // must leave no trace in the method
  // One that reads no concept is handed none.
  if (!method->traits().reads_concepts) {
    CHECK(of_another == expected);
    CHECK(erase_all({}) == expected);
  }
  Concept same = TinyConcept();
  if (!declares("known_names")) same.known = {"cat"};
  if (!declares("anchor")) same.anchor = "cat";
  if (!declares("preserve")) same.preserve = {"picture"};
  // For evaluation only: no method may see them.
  same.title = "another title";
  same.held_out = {"Caniche"};
  same.neighbours.near = same.neighbours.far = same.neighbours.lexical = {"cat"};
  same.judge.target = {"cat"};
  CHECK(erase(same) == expected);
}

namespace {

// Latents that `erased` draws for two prompts, each on noise of its own.
struct Drawing {
  at::Tensor latents;
  int64_t evaluations = 0;
};

Drawing Draw(const Backbone& edited, const Hooks* hooks, const std::vector<std::string>& prompts,
             const PromptDrawing& way = {}) {
  const NoGrad no_grad;
  const int64_t length = edited.clip.text.max_position_embeddings;
  const std::vector<std::string> nothing(prompts.size());
  const auto encode = [&](const std::vector<std::string>& list) {
    return EncodeText(edited, TokenizeBatch(*edited.tokenizer, list, length), hooks);
  };
  const at::Tensor texts = encode(prompts), empty = encode(nothing);
  at::Tensor latents = at::empty({static_cast<int64_t>(prompts.size()), 4, 8, 8}, at::kFloat);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const at::Tensor one = latents[static_cast<int64_t>(i)];
    Philox rng({1, prompts[i]});
    rng.FillNormal(one.data_ptr<float>(), one.numel());
  }
  SamplerSpec spec;
  spec.steps = 3;
  spec.noise_scale = way.noise_scale;
  spec.first_step = way.first_step;
  spec.extra_noise = [&](size_t step, const at::Tensor& like) {
    at::Tensor drawn = at::empty(like.sizes(), at::kFloat);
    for (size_t i = 0; i < prompts.size(); ++i) {
      Philox rng({2, prompts[i], 0, Stream::kStepNoise, step});
      const at::Tensor one = drawn[static_cast<int64_t>(i)];
      rng.FillNormal(one.data_ptr<float>(), one.numel());
    }
    return drawn;
  };
  Drawing drawing;
  drawing.latents =
      SampleLatents(edited, hooks, texts, empty, latents, spec, &drawing.evaluations,
                    /*detected=*/nullptr, TokenizeBatch(*edited.tokenizer, prompts, length));
  return drawing;
}

}  // namespace

TEST_CASE("two concepts are removed at once, both of them") {
  const std::unique_ptr<Method> method = Smoke();
  const Backbone base = TinyBackbone(TestFolder("method_contract"));
  const std::string before = Digest(base);
  Concept first = TinyConcept(), second = TinyConcept();
  first.preserve = second.preserve = {"picture"};  // neither is what the other removes
  second.name = "cat";
  second.known = second.judge.target = {"cat"};
  const std::vector<Concept> both = {first, second};
  struct Made {
    std::string digest;
    at::Tensor latents;
  };
  const auto erase = [&](const std::vector<Concept>& concepts) {
    TinyContext context;
    const Erased erased = method->Erase(context, base, concepts);
    CheckAsked(method->traits(), context);
    const Backbone edited = ApplyErased(base, erased);
    const std::vector<std::string> prompts = {"a poodle", "a cat"};
    const at::Tensor latents = Draw(edited, erased.hooks.get(), prompts).latents;
    CHECK(latents.isfinite().all().item<bool>());
    // What was stored of the hooks makes the same ones again.
    if (erased.hook_state.size() > 0) {
      const auto restored = method->RestoreHooks(base, concepts, erased.hook_state);
      REQUIRE(restored != nullptr);
      CHECK(at::equal(Draw(edited, restored.get(), prompts).latents, latents));
    }
    return Made{Digest(erased), latents};
  };
  const auto same = [](const Made& a, const Made& b) {
    return a.digest == b.digest && at::equal(a.latents, b.latents);
  };
  const Made together = erase(both);
  CHECK(same(together, erase(both)));
  CHECK(Digest(base) == before);
  // Who reads a concept's names reads those of all of them.
  const MethodTraits traits = method->traits();
  const bool reads = traits.reads_concepts && IsOneOf("known_names", traits.uses);
  CHECK(same(together, erase({first})) != reads);
  CHECK(same(together, erase({second})) != reads);
}

TEST_CASE("the edited model draws, the same in any order and every time") {
  const std::unique_ptr<Method> method = Smoke();
  const Backbone base = TinyBackbone(TestFolder("method_contract"));
  TinyContext context;
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  const Backbone edited = ApplyErased(base, erased);
  const Hooks* hooks = erased.hooks.get();
  const Drawing first = Draw(edited, hooks, {"a poodle", "a cat"});
  CHECK(first.latents.sizes() == at::IntArrayRef({2, 4, 8, 8}));
  CHECK(first.latents.isfinite().all().item<bool>());
  CHECK(first.evaluations >= 2 * 3);  // at least one row a picture and step

  // Hooks hold no state: what was drawn in between and beside changes nothing.
  const Drawing swapped = Draw(edited, hooks, {"a cat", "a poodle"});
  CHECK(at::equal(swapped.latents[0], first.latents[1]));
  CHECK(at::equal(swapped.latents[1], first.latents[0]));
  const Drawing beside = Draw(edited, hooks, {"a poodle", "a dog"});
  CHECK(at::equal(beside.latents[0], first.latents[0]));
  const Drawing again = Draw(edited, hooks, {"a poodle", "a cat"});
  CHECK(at::equal(again.latents, first.latents));
  CHECK(again.evaluations == first.evaluations);
}

TEST_CASE("the edited model draws with more noise and from a later step, hooks and all") {
  const std::unique_ptr<Method> method = Smoke();
  const Backbone base = TinyBackbone(TestFolder("method_contract"));
  TinyContext context;
  const Erased erased = method->Erase(context, base, {TinyConcept()});
  const Backbone edited = ApplyErased(base, erased);
  const std::vector<std::string> prompts = {"a poodle", "a cat"};
  const Drawing plain = Draw(edited, erased.hooks.get(), prompts);
  for (const PromptDrawing& way : {PromptDrawing{1.5, 0}, PromptDrawing{0, 1}}) {
    CAPTURE(way.noise_scale, way.first_step);
    const Drawing drawn = Draw(edited, erased.hooks.get(), prompts, way);
    CHECK(drawn.latents.sizes() == plain.latents.sizes());
    CHECK(drawn.latents.isfinite().all().item<bool>());
    CHECK_FALSE(at::equal(drawn.latents, plain.latents));
    // Steps that are skipped are not asked; noise changes what is seen, not how often.
    CHECK((drawn.evaluations < plain.evaluations) == (way.first_step > 0));
    const Drawing swapped = Draw(edited, erased.hooks.get(), {"a cat", "a poodle"}, way);
    CHECK(at::equal(swapped.latents[0], drawn.latents[1]));
  }
}

}  // namespace excise
