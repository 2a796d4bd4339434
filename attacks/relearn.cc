// What: fine-tunes the edited model for a few steps on a few pictures of the concept
// Paper: few-shot supervision as in Liu, Zhang, "Erased or Dormant? Rethinking Concept Erasure
//   Through Reversibility", 2025, arXiv 2505.16174
// Equation: W' = argmin_W E ||eps - eps_W(x_t, t, p)||^2 over k pictures of the concept with their
//   prompts p, a few steps of AdamW from the edited model's weights
// Reference: none
// Deviations: the U-Net's own weights move, not an adapter; the pictures are the unmodified
//   model's, for prompts of the split attack_seed
// Needs: the edited model's weights, and pictures of the unmodified model; the hooks stay in place
// Caveats: a model that never saw the concept learns it, too: read it beside `retrained`
#include <ATen/core/Tensor.h>

#include "attacks/seed_pictures.h"
#include "models/tensors/autograd.h"
#include "training/trainer.h"

namespace excise {
namespace {

class Relearn : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("pictures", &pictures_, "pictures of the concept", {.min = 1, .max = 256});
    v.Integer("iterations", &iterations_, "gradient steps", {.min = 1});
    v.Integer("batch", &batch_, "pictures in a gradient step", {.min = 1, .max = 256});
    v.Number("lr", &lr_, "learning rate of AdamW", {.min = 0});
    v.Choice("layers", &layers_, "weights that move: cross-attention, or all", {"cross", "all"});
  }
  int version() const override { return 1; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.unmodified = traits.weights = true;
    traits.per = AttackTraits::Per::kConcept;
    traits.seeds = pictures_;
    traits.most.gradient_steps = iterations_;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"smoke", {{"pictures", 2}, {"iterations", 3}, {"batch", 2}}}};
  }
  // The budget (pictures, iterations, batch) is the experiment's, not the attack's.
  SearchSpace search_space() const override {
    return {{"lr", {1e-5, 3e-5, 1e-4, 3e-4, 1e-3}}, {"layers", {"cross", "all"}}};
  }
  Work work(Acts) const override {
    return {{Pass::kPicture, 1, static_cast<double>(pictures_)},
            {Pass::kUNetGradient, static_cast<double>(iterations_), static_cast<double>(batch_)}};
  }

  Learnt Learn(Target& target, const Concept& subject) const override {
    const Backbone& victim = target.Victim();
    const SeedPictures seeds = DrawSeedPictures(target, pictures_);
    const at::Tensor states = StatesOf(victim, seeds.prompts);
    target.ledger().text_evaluations += states.size(0);
    const std::vector<std::string> names =
        SelectParameters(victim.unet, {layers_ == "cross" ? "attn2\\." : "."});
    TrainSpec spec;
    spec.steps = iterations_;
    spec.optimizer.lr = lr_;
    spec.label = "relearn";
    const auto loss = [&](const StateDict& unet, int64_t step, int64_t) {
      const SeedBatch batch = DrawSeedBatch(target, subject, seeds, step, batch_);
      return DenoisingLosses(victim.unet_config, victim.scheduler, unet,
                             seeds.latents.index_select(0, batch.rows),
                             states.index_select(0, batch.rows.to(states.device())), batch.draw)
          .mean();
    };
    const StateDict trained = Train(victim.unet, names, spec, loss).weights;
    Learnt learnt;
    for (const std::string& name : names) learnt.unet.Set(name, trained.Get(name));
    target.ledger().gradient_steps += iterations_;
    target.ledger().unet_evaluations += iterations_ * batch_;
    learnt.ledger = target.ledger();
    return learnt;
  }

 private:
  static at::Tensor StatesOf(const Backbone& victim, const std::vector<Prompt>& prompts) {
    const NoGrad no_grad;
    std::vector<std::string> texts;
    for (const Prompt& prompt : prompts) texts.push_back(prompt.text);
    return EncodeText(
        victim, TokenizeBatch(*victim.tokenizer, texts, victim.clip.text.max_position_embeddings));
  }

  int64_t pictures_ = 4, iterations_ = 40, batch_ = 4;
  double lr_ = 1e-3;
  std::string layers_ = "cross";
};

const Registration<Attack, Relearn> registration;

}  // namespace
}  // namespace excise
