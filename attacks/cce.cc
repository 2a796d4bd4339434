// What: learns one embedding with which the edited model draws the concept again
// Paper: Pham, Marshall, Cohen, Mittal, Hegde, "Circumventing Concept Erasure Methods For
//   Text-to-Image Generative Models" (CCE), ICLR 2024, arXiv 2308.01508
// Equation: v = argmin_v E ||eps - eps*(x_t, t, "a photo of <v>")||^2 over pictures of the concept,
//   eps* the edited model's weights (textual inversion)
// Reference: NYU-DICE-Lab/circumventing-concept-erasure @ bb7034b, esd/concept_inversion.py
// Deviations: in the prompts under test v stands in the place of the concept's name (the paper
//   draws its templates alone); the pictures are for prompts of the split attack_seed; the learning
//   rate is not scaled by the batch
// Needs: the edited model with gradients, and pictures of the unmodified model; its result is an
//   embedding and no text, so it takes open weights
// Caveats: follows the weights alone and not a method's hooks; a model that never saw the concept
//   may be steered as well: read it beside `retrained`. Defaults are reduced for the emoji
//   backbone; preset "paper": 5000 steps of 16 on 25 pictures
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "attacks/names_in_text.h"
#include "attacks/seed_pictures.h"
#include "core/error.h"
#include "models/tensors/autograd.h"
#include "training/optimizers.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

// The embeddings' place in `text` is that of the longest known name that stands there as a word;
// where there is none, they are appended.
std::string WithPlaceholder(const std::string& text, const Concept& subject) {
  const std::u32string letters = DecodeUtf8(text);
  const std::vector<NamePlace> places = PlacesOfNames(letters, subject.known, /*most=*/1);
  if (places.empty()) return text + ", " + kPlaceholder;
  return EncodeUtf8(letters.substr(0, places[0].begin)) + kPlaceholder +
         EncodeUtf8(letters.substr(places[0].end));
}

class Cce : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("tokens", &tokens_, "embeddings that are learnt", {.min = 1, .max = 16});
    v.Integer("pictures", &pictures_, "pictures of the concept", {.min = 1, .max = 256});
    v.Integer("iterations", &iterations_, "gradient steps", {.min = 1});
    v.Integer("batch", &batch_, "pictures in a gradient step", {.min = 1, .max = 256});
    v.Number("lr", &lr_, "learning rate of AdamW", {.min = 0});
    v.Number("weight_decay", &weight_decay_, "weight decay of AdamW", {.min = 0});
  }
  int version() const override { return 1; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.unmodified = traits.gradients = true;
    traits.per = AttackTraits::Per::kConcept;
    traits.seeds = pictures_;
    traits.most.gradient_steps = iterations_;
    traits.form = PromptForm::kTokenEmbeddings;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"tokens", 1}, {"pictures", 25}, {"iterations", 5000}, {"batch", 16}, {"lr", 0.08}}},
            {"smoke", {{"pictures", 2}, {"iterations", 3}, {"batch", 2}}}};
  }
  // The budget (pictures, iterations, batch) is the experiment's, not the attack's. Token
  // embeddings of the emoji backbone are 0.04 in RMS; at 0.01 what is learnt leaves that scale
  // within 300 steps. The weight decay is left out: lr * weight_decay * steps is 0.03 at most.
  SearchSpace search_space() const override {
    return {{"lr", {0.0003, 0.001, 0.003, 0.01}}, {"tokens", {1, 2}}};
  }
  Work work(Acts) const override {
    const auto steps = static_cast<double>(iterations_), rows = static_cast<double>(batch_);
    return {{Pass::kPicture, 1, static_cast<double>(pictures_)},
            {Pass::kTextGradient, steps, 1},
            {Pass::kUNetGradient, steps, rows}};
  }
  std::string Excludes(const Backbone& base, const Concept& subject,
                       const Prompt& seed) const override {
    // The placeholder counts as the tokens that stand for it, and as nothing itself.
    const std::string text = WithPlaceholder(seed.text, subject);
    const size_t place = text.find(kPlaceholder);
    const size_t words =
        base.tokenizer->Encode(text.substr(0, place)).size() +
        base.tokenizer->Encode(text.substr(place + std::string(kPlaceholder).size())).size();
    const int64_t room = base.clip.text.max_position_embeddings - 2 - tokens_;
    return static_cast<int64_t>(words) > room ? "excluded:too_long" : "";
  }

  Learnt Learn(Target& target, const Concept& subject) const override {
    const Backbone& victim = target.Victim();
    const SeedPictures seeds = DrawSeedPictures(target, pictures_);
    const PromptGap gap = MakePromptGap(*victim.tokenizer, "a photo of ", "", tokens_,
                                        victim.clip.text.max_position_embeddings);
    at::Tensor rows = Start(victim, subject);
    OptimizerSpec spec;
    spec.lr = lr_;
    spec.weight_decay = weight_decay_;
    Optimizer optimizer(spec, {"embeddings"}, {rows});
    for (int64_t step = 0; step < iterations_; ++step) {
      const SeedBatch batch = DrawSeedBatch(target, subject, seeds, step, batch_);
      const at::Tensor leaf = rows.detach().requires_grad_(true);
      const at::Tensor loss = InversionLosses(victim, gap, leaf.unsqueeze(0),
                                              seeds.latents.index_select(0, batch.rows), batch.draw)
                                  .mean();
      optimizer.Step(Gradients(loss, {leaf}));
    }
    Ledger& spent = target.ledger();
    spent.gradient_steps += iterations_;
    spent.text_evaluations += iterations_;
    spent.unet_evaluations += iterations_ * batch_;
    Learnt learnt;
    learnt.tensors.Set("embeddings", rows.detach().to(at::kCPU).clone());
    learnt.ledger = spent;
    return learnt;
  }

  Prompt Use(const Learnt& learnt, const Backbone&, const Concept& subject,
             const Prompt& seed) const override {
    const at::Tensor rows = learnt.tensors.Get("embeddings").contiguous();
    Prompt prompt = seed;
    prompt.text = WithPlaceholder(seed.text, subject);
    prompt.driver = TokenEmbeddings{
        {rows.sizes().vec(), {rows.data_ptr<float>(), rows.data_ptr<float>() + rows.numel()}}};
    return prompt;
  }

 private:
  // The mean embedding of the known names' tokens, as often as there are rows to learn.
  at::Tensor Start(const Backbone& victim, const Concept& subject) const {
    const NoGrad no_grad;
    std::vector<int64_t> ids;
    for (const std::string& name : subject.known) {
      const std::vector<int64_t> own = victim.tokenizer->Encode(name);
      ids.insert(ids.end(), own.begin(), own.end());
    }
    if (ids.empty()) {
      throw UsageError(fmt::format(
          "cce: the search starts from the concept's known names, and '{}' has none. Give it some "
          "in its file.",
          subject.name));
    }
    const at::Tensor words = at::tensor(ids, at::kLong).unsqueeze(0);
    return ClipTokenEmbeddings(victim.text_encoder, words)[0]
        .mean(0, /*keepdim=*/true)
        .expand({tokens_, -1})
        .contiguous()
        .clone();
  }

  int64_t tokens_ = 2, pictures_ = 8, iterations_ = 60, batch_ = 4;
  double lr_ = 0.001, weight_decay_ = 0.01;
};

const Registration<Attack, Cce> registration;

}  // namespace
}  // namespace excise
