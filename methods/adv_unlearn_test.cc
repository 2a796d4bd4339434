// Gradient steps with and without a prefix against the paper's formula, with Adam by hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "tests/by_hand.h"
#include "tests/tiny_models.h"
#include "training/soft_prompt.h"
#include "training/trainer.h"

namespace excise {
namespace {

constexpr double kEta = 2, kRetain = 0.5, kLr = 1e-4, kAttackLr = 1e-2;

Erased Erase(const Backbone& base, Json params, TinyContext* context) {
  const std::unique_ptr<Method> method = Registry<Method>::Get().Make("adv_unlearn");
  params.update({{"eta", kEta},
                 {"retain", kRetain},
                 {"lr", kLr},
                 {"attack_lr", kAttackLr},
                 {"batch", 3},
                 {"trajectories", 2},
                 {"sampling_steps", 3}});
  DecodeParams(params, *method, "test");
  return method->Erase(*context, base, {TinyConcept()});
}

// What the method computes, written out for one name and one retained text.
class ByHand {
 public:
  explicit ByHand(const Backbone& base) : base_(base), trajectory_(base, 3) {
    name_ = Points("poodle", "adv_unlearn/poodle");
    kept_ = Points("a picture of a cat", "adv_unlearn/kept");
  }

  at::Tensor Loss(const StateDict& encoder, int64_t step, int64_t attack_steps) {
    Backbone student = base_;
    student.text_encoder = encoder;
    Philox rng = context_.Rng("adv_unlearn/names", static_cast<uint64_t>(step));
    rng.Below(1);  // which name: there is one
    const ConceptPoints some = name_.Some(rng, 3);
    const at::Tensor states = attack_steps == 0 ? EncodeTexts(student, {"poodle"})
                                                : Prefixed(student, step, attack_steps);
    const at::Tensor target = some.empty - kEta * (some.text - some.empty);
    const ConceptPoints others =
        kept_.Some(context_.Rng("adv_unlearn/kept", static_cast<uint64_t>(step)), 3);
    return (Said(some, states) - target).square().mean() +
           kRetain * (Said(others, EncodeTexts(student, {"a picture of a cat"})) - others.text)
                         .square()
                         .mean();
  }

 private:
  ConceptPoints Points(const std::string& text, const std::string& stream) {
    const PointPool pool{2, 3, 3};
    return pool.Draw(context_, base_, trajectory_, EncodeTexts(base_, {text}),
                     EncodeTexts(base_, {""}), stream);
  }
  at::Tensor Said(const ConceptPoints& at, const at::Tensor& states) const {
    return UNetForward(base_.unet_config, base_.unet, at.latents, at.timesteps,
                       states.expand({3, -1, -1}));
  }
  // The text states of the prefix that `attack_steps` of Adam find, before the name.
  at::Tensor Prefixed(const Backbone& student, int64_t step, int64_t attack_steps) {
    Backbone frozen = student;
    for (const auto& [key, tensor] : student.text_encoder) {
      frozen.text_encoder.Set(key, tensor.detach());
    }
    Philox tokens = context_.Rng("adv_unlearn/tokens", static_cast<uint64_t>(step));
    const auto id =
        static_cast<int64_t>(tokens.Below(static_cast<uint64_t>(base_.clip.text.vocab_size)));
    const PromptGap gap =
        MakePromptGap(*base_.tokenizer, "", "poodle", 1, base_.clip.text.max_position_embeddings);
    StateDict prefix;
    prefix.Set("prefix",
               ClipTokenEmbeddings(frozen.text_encoder, at::tensor({id}, at::kLong).unsqueeze(0)));
    prefix = AdamWByHand(
        prefix, {"prefix"}, attack_steps, kAttackLr, 0,
        [&](const StateDict& now, int64_t search_step) {
          const ConceptPoints some =
              name_.Some(context_.Rng("adv_unlearn/search",
                                      static_cast<uint64_t>(step * attack_steps + search_step)),
                         3);
          const at::Tensor said = Said(some, EncodeSoftPrompt(frozen, gap, now.Get("prefix")));
          return (said - some.text).square().mean();
        });
    return EncodeSoftPrompt(student, gap, prefix.Get("prefix").detach());
  }

  const Backbone& base_;
  GuidedTrajectory trajectory_;
  TinyContext context_;
  ConceptPoints name_, kept_;
};

}  // namespace

TEST_CASE("adv_unlearn: two steps are Adam's on the paper's loss, with and without a prefix") {
  const Backbone base = TinyBackbone();
  const std::vector<std::string> layers =
      SelectParameters(base.text_encoder, {"encoder\\.layers\\."}, {"layer_norm"});
  ByHand by_hand(base);
  for (const int64_t attack_steps : {0, 3}) {
    INFO(attack_steps << " steps of a search");
    TinyContext context;
    const Erased erased =
        Erase(base, {{"iterations", 2}, {"warmup", 0}, {"attack_steps", attack_steps}}, &context);
    const StateDict expected = AdamWByHand(base.text_encoder, layers, 2, kLr, 0,
                                           [&](const StateDict& encoder, int64_t step) {
                                             return by_hand.Loss(encoder, step, attack_steps);
                                           });
    CHECK(FurthestApart(erased.text_encoder, base.text_encoder) > kLr);
    CHECK(FurthestApart(erased.text_encoder, expected) < 2e-6);
    CHECK(erased.unet.size() == 0);
    CHECK(context.gradient_steps == 2 + 2 * attack_steps);
    // Two pools of 2 trajectories, 3 steps and 2 texts; name and kept text; the searches.
    CHECK(context.unet_evaluations == 2 * 2 * 3 * 2 + 2 * 2 * 3 + 2 * attack_steps * 3);
  }
}

TEST_CASE("adv_unlearn: the warm-up searches for nothing") {
  const Backbone base = TinyBackbone();
  TinyContext one, other;
  const Erased warm = Erase(base, {{"iterations", 2}, {"warmup", 2}, {"attack_steps", 3}}, &one);
  const Erased none = Erase(base, {{"iterations", 2}, {"warmup", 0}, {"attack_steps", 0}}, &other);
  CHECK(FurthestApart(warm.text_encoder, none.text_encoder) == 0);
  CHECK(one.gradient_steps == 2);
}

}  // namespace excise
