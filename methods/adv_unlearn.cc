// What: fine-tunes the text encoder against prefixes that bring the concept back, found on the way
// Paper: Zhang, Chen, Jia, Zhang, Fan, Liu, Hong, Ding, Liu, "Defensive Unlearning with Adversarial
//   Training for Robust Concept Erasure in Diffusion Models" (AdvUnlearn), NeurIPS 2024, arXiv
//   2405.15234
// Equation: min_E ||eps(z_t, E(q*, c)) - [eps(z_t, 0) - eta (eps(z_t, c) - eps(z_t, 0))]||^2 + g
//   ||eps(z_t, E(r)) - eps(z_t, r)||^2, q* = argmin_q ||eps(z_t, E(q, c)) - eps(z_t, c)||^2 over
//   embeddings of a prefix; eps(z_t, c), with the original's encoder: the frozen original; E alone
//   moves
// Reference: OPTML-Group/AdvUnlearn @ 1c3f2b7, train-scripts/AdvUnlearn.py, utils/attack_util.py
// Deviations: every search starts at random tokens (`attack_init random` there, where the default
//   goes on from the last prefix: a training that resumes must not depend on what it forgot); z_t
//   is of pools that the original draws once, where the reference's edited model draws a partial
//   run for every step; retained texts are of the concept file's preserved names, not COCO's
//   objects
// Needs: known names and preserved names; no picture
// Caveats: a search costs as many gradient steps as it has; defaults are reduced for the emoji
//   backbone; preset "paper" has the reference's settings
#include <ATen/core/Tensor.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/tensor.h>

#include "methods/concept_points.h"
#include "methods/concept_text.h"
#include "models/tensors/autograd.h"
#include "training/soft_prompt.h"
#include "training/trainer.h"

namespace excise {
namespace {

class AdvUnlearn : public Method {
 public:
  void Fields(ParamVisitor& v) override {
    v.Number("eta", &eta_, "strength of the negative guidance in the target", {.min = 0});
    v.Number("retain", &retain_, "weight of what is retained (g)", {.min = 0});
    v.Number("lr", &lr_, "learning rate of Adam", {.min = 0});
    v.Integer("iterations", &iterations_, "gradient steps of the encoder", {.min = 1});
    v.Integer("warmup", &warmup_, "of these, the first ones without a prefix", {.min = 0});
    v.Integer("batch", &batch_, "latents in a gradient step", {.min = 1});
    v.Integer("prefix_len", &prefix_len_, "embeddings of the prefix", {.min = 1, .max = 75});
    v.Integer("attack_steps", &attack_steps_, "gradient steps of each search", {.min = 0});
    v.Number("attack_lr", &attack_lr_, "learning rate of the search's Adam", {.min = 0});
    v.Integer("retained", &retained_, "prompts with preserved names", {.min = 1, .max = 1000});
    pool_.Fields(v);
  }
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits{{"known_names", "preserve"}, true, ""};
    traits.prompts = {{"preserve", retained_}};
    traits.seeded = true;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"eta", 1},
              {"retain", 0.3},
              {"lr", 1e-5},
              {"iterations", 1000},
              {"warmup", 200},
              {"batch", 1},
              {"prefix_len", 1},
              {"attack_steps", 30},
              {"attack_lr", 1e-3},
              {"sampling_steps", 50},
              {"start_guidance", 3}}},
            {"smoke",
             {{"iterations", 8},
              {"warmup", 4},
              {"batch", 2},
              {"attack_steps", 2},
              {"retained", 2},
              {"trajectories", 2},
              {"sampling_steps", 4}}}};
  }
  SearchSpace search_space() const override {
    return {{"eta", {1, 2, 3}},
            {"retain", {0.3, 1, 3}},
            {"lr", {5e-5, 1e-4, 2e-4, 4e-4}},
            {"attack_lr", {1e-3, 1e-2, 1e-1}}};
  }
  Work work() const override {
    const auto rows = static_cast<double>(batch_);
    const auto steps = static_cast<double>(iterations_);
    Work work = {pool_.work(), pool_.work(), {Pass::kUNetGradient, steps, rows * Passes()}};
    if (Searches() > 0) {
      work.push_back({Pass::kUNetGradient, static_cast<double>(Searches() * attack_steps_), rows});
    }
    return work;
  }

  Erased Erase(Context& context, const Backbone& base,
               const std::vector<Concept>& concepts) const override;

 private:
  // A name, and where the original was on its way to pictures of it.
  struct Name {
    at::Tensor ids;  // (1, tokens)
    PromptGap gap;   // a prefix before the name
    ConceptPoints points;
  };
  std::vector<Name> Names(Context& context, const Backbone& base,
                          const GuidedTrajectory& trajectory,
                          const std::vector<Concept>& concepts) const;
  // The embeddings (1, prefix_len, hidden) with which `student` answers most as the original did.
  at::Tensor Search(Context& context, const Backbone& student, const Name& name,
                    int64_t iteration) const;
  static at::Tensor Predict(const Backbone& model, const ConceptPoints& at,
                            const at::Tensor& states) {
    return UNetForward(model.unet_config, model.unet, at.latents, at.timesteps,
                       states.expand({at.latents.size(0), -1, -1}));
  }
  double Passes() const { return retain_ > 0 ? 2 : 1; }
  int64_t Searches() const {
    return attack_steps_ > 0 ? std::max<int64_t>(0, iterations_ - warmup_) : 0;
  }

  double eta_ = 1, retain_ = 1, lr_ = 1e-4, attack_lr_ = 1e-2;
  int64_t iterations_ = 150, warmup_ = 30, batch_ = 8, prefix_len_ = 1, attack_steps_ = 10;
  int64_t retained_ = 32;
  PointPool pool_;
};

std::vector<AdvUnlearn::Name> AdvUnlearn::Names(Context& context, const Backbone& base,
                                                const GuidedTrajectory& trajectory,
                                                const std::vector<Concept>& concepts) const {
  const int64_t length = base.clip.text.max_position_embeddings;
  std::vector<std::string> names;
  for (const Concept& subject : concepts) {
    names.insert(names.end(), subject.known.begin(), subject.known.end());
  }
  PointPool each = pool_;
  const auto count = static_cast<int64_t>(names.size());
  each.trajectories = (pool_.trajectories + count - 1) / count;
  std::vector<Name> all;
  for (const std::string& name : names) {
    all.push_back({TokenizeBatch(*base.tokenizer, {name}, length),
                   MakePromptGap(*base.tokenizer, "", name, prefix_len_, length),
                   each.Draw(context, base, trajectory, EncodeTexts(base, {name}),
                             EncodeTexts(base, {""}), "adv_unlearn/" + name)});
  }
  return all;
}

at::Tensor AdvUnlearn::Search(Context& context, const Backbone& student, const Name& name,
                              int64_t iteration) const {
  Philox tokens = context.Rng("adv_unlearn/tokens", static_cast<uint64_t>(iteration));
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < prefix_len_; ++i) {
    ids.push_back(
        static_cast<int64_t>(tokens.Below(static_cast<uint64_t>(student.clip.text.vocab_size))));
  }
  at::Tensor soft =
      ClipTokenEmbeddings(student.text_encoder, at::tensor(ids, at::kLong).unsqueeze(0))
          .detach()
          .clone()
          .requires_grad_(true);
  OptimizerSpec spec;
  spec.name = "adam";
  spec.lr = attack_lr_;
  Optimizer optimizer(spec, {"prefix"}, {soft});
  for (int64_t step = 0; step < attack_steps_; ++step) {
    const auto stream = static_cast<uint64_t>(iteration * attack_steps_ + step);
    const ConceptPoints some = name.points.Some(context.Rng("adv_unlearn/search", stream), batch_);
    const at::Tensor said = Predict(student, some, EncodeSoftPrompt(student, name.gap, soft));
    optimizer.Step(Gradients(at::mse_loss(said, some.text), {soft}));
  }
  return soft.detach();
}

Erased AdvUnlearn::Erase(Context& context, const Backbone& base,
                         const std::vector<Concept>& concepts) const {
  const GuidedTrajectory trajectory(base, pool_.sampling_steps);
  std::vector<Name> names;
  at::Tensor kept_ids;
  ConceptPoints kept;
  {
    const NoGrad no_grad;
    names = Names(context, base, trajectory, concepts);
    std::vector<std::string> texts;
    for (const Concept& subject : concepts) {
      for (const std::string& text : context.Prompts(subject, "preserve", retained_)) {
        texts.push_back(text);
      }
    }
    kept_ids = TokenizeBatch(*base.tokenizer, texts, base.clip.text.max_position_embeddings);
    kept = pool_.Draw(context, base, trajectory, EncodeTexts(base, texts), EncodeTexts(base, {""}),
                      "adv_unlearn/kept");
  }
  const auto loss = [&](const StateDict& encoder, int64_t step, int64_t) {
    const auto stream = static_cast<uint64_t>(step);
    Backbone student = base;
    student.text_encoder = encoder;
    Philox rng = context.Rng("adv_unlearn/names", stream);
    const Name& name = names[rng.Below(names.size())];
    const ConceptPoints some = name.points.Some(rng, batch_);
    at::Tensor states;
    if (step < warmup_ || attack_steps_ == 0) {
      states = EncodeText(student, name.ids);
    } else {
      Backbone frozen = base;
      for (const auto& [key, tensor] : encoder) frozen.text_encoder.Set(key, tensor.detach());
      states = EncodeSoftPrompt(student, name.gap, Search(context, frozen, name, step));
    }
    const at::Tensor sum = at::mse_loss(Predict(student, some, states),
                                        GuidedPrediction(some.empty, some.text, -eta_));
    if (retain_ == 0) return sum;
    const ConceptPoints others = kept.Some(context.Rng("adv_unlearn/kept", stream), batch_);
    const at::Tensor ids = kept_ids.to(others.which.device()).index_select(0, others.which);
    return sum +
           retain_ * at::mse_loss(Predict(student, others, EncodeText(student, ids)), others.text);
  };
  TrainSpec spec;
  spec.steps = iterations_;
  spec.optimizer.name = "adam";
  spec.optimizer.lr = lr_;
  spec.checkpoint = context.CheckpointFile();
  spec.checkpoint_every = 50;
  spec.label = "adv_unlearn";
  const std::vector<std::string> layers =
      SelectParameters(base.text_encoder, {"^text_model\\.encoder\\.layers\\."}, {"layer_norm"});
  const TrainResult result = Train(base.text_encoder, layers, spec, loss);
  context.CountGradientSteps(iterations_ + Searches() * attack_steps_);
  context.CountUnetEvaluations(static_cast<int64_t>(Passes()) * iterations_ * batch_ +
                               Searches() * attack_steps_ * batch_);
  Erased erased;
  for (const std::string& layer : layers) {
    erased.text_encoder.Set(layer, result.weights.Get(layer));
  }
  return erased;
}

const Registration<Method, AdvUnlearn> registration;

}  // namespace
}  // namespace excise
