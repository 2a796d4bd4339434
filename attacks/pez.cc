// What: searches tokens whose text embedding is nearest to pictures of the concept
// Paper: Wen, Jain, Kirchenbauer, Goldblum, Geiping, Goldstein, "Hard Prompts Made Easy:
//   Gradient-Based Discrete Optimization for Prompt Tuning and Discovery", NeurIPS 2023, arXiv
//   2302.03668
// Equation: e <- AdamW(e, grad L at P(e)), L = 1 - cos(T(P(e)), f), P: nearest token by cosine, f:
//   one target drawn per step; kept: the prompt of highest mean cosine over all targets
// Reference: YuxinWenRick/hard-prompts-made-easy @ f22a1be, optim_utils.py
// Deviations: restarts are independent (the reference takes a mean over its prompt batch, which
//   AdamW nearly cancels); special tokens and, by default, tokens that are no text alone are left
//   out; one forward pass serves score and gradient
// Needs: a surrogate CLIP with gradients, and pictures of the unmodified model; never the victim
// Caveats: defaults are reduced for the emoji backbone; preset "paper": 16 tokens and 3000 steps;
//   the decoded string is evaluated, which may tokenise differently (round_trip)
#include <ATen/core/Tensor.h>

#include "attacks/hard_prompt.h"
#include "models/autograd.h"
#include "training/optimizers.h"

namespace excise {
namespace {

class Pez : public TransferAttack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("prompt_len", &prompt_len_, "tokens of the prompt", {.min = 1, .max = 75});
    v.Integer("iterations", &iterations_, "gradient steps", {.min = 1});
    v.Integer("restarts", &restarts_, "prompts optimised side by side", {.min = 1, .max = 256});
    v.Number("lr", &lr_, "learning rate of AdamW", {.min = 0});
    v.Number("weight_decay", &weight_decay_, "weight decay of AdamW", {.min = 0});
    v.Choice("target", &target_,
             "what the prompt should mean: pictures that the unmodified model draws for the seed "
             "prompt, or the seed prompt's text",
             {"image", "text"});
    v.Integer("reference_images", &reference_images_, "pictures a prompt", {.min = 1, .max = 64});
    v.Choice(
        "tokens", &tokens_,
        "tokens that may be used: text on their own, such as pass a block-list of the known names, "
        "or all",
        {"printable", "unlisted", "all"});
  }
  int version() const override { return 1; }
  bool uses_surrogate() const override { return true; }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"prompt_len", 16},
              {"iterations", 3000},
              {"restarts", 1},
              {"weight_decay", 0.1},
              {"tokens", "all"}}},
            {"smoke", {{"iterations", 4}, {"restarts", 1}, {"reference_images", 1}}}};
  }
  // The budget (iterations, restarts) is the experiment's, not the attack's.
  SearchSpace search_space() const override {
    return {{"prompt_len", {4, 8, 12, 16}},
            {"lr", {0.03, 0.1, 0.3}},
            {"weight_decay", {0, 0.1}},
            {"target", {"image", "text"}}};
  }

  Trajectory Craft(TransferTarget& target, const Concept& subject,
                   const Prompt& prompt) const override {
    const ClipModel& clip = target.Surrogate();
    const at::Tensor features = target_ == "image" ? ImageTargets(target, prompt, reference_images_)
                                                   : TextTarget(target, prompt);
    const HardPromptScorer scorer(clip, features, UsableTokens(*clip.tokenizer, tokens_, subject),
                                  prompt_len_);
    Philox rng = target.Rng(prompt);
    at::Tensor soft = scorer.Embed(scorer.RandomIds(restarts_, &rng)).detach().clone();
    OptimizerSpec spec;
    spec.name = "adamw";
    spec.lr = lr_;
    spec.weight_decay = weight_decay_;
    Optimizer optimizer(spec, {"soft_prompt"}, {soft});

    Trajectory trajectory;
    for (int64_t iteration = 0; iteration < iterations_; ++iteration) {
      const at::Tensor ids = scorer.Nearest(soft);
      at::Tensor hard = scorer.Embed(ids).detach().requires_grad_(true);
      const at::Tensor similarities = scorer.Similarities(hard);  // (restarts, targets)
      target.ledger().candidate_evaluations += restarts_;
      target.ledger().text_evaluations += restarts_;
      KeepBest("pez", *clip.tokenizer, prompt, ids, similarities.detach().mean(1), target.ledger(),
               &trajectory);
      const at::Tensor drawn = similarities.select(1, rng.Below(features.size(0)));
      // The gradient at the projected point moves the soft one (straight through).
      optimizer.Step(Gradients(drawn.neg().sum(), {hard}));
      target.ledger().gradient_steps += restarts_;
    }
    return trajectory;
  }

 private:
  int64_t prompt_len_ = 8, iterations_ = 100, restarts_ = 2, reference_images_ = 3;
  double lr_ = 0.1, weight_decay_ = 0;
  std::string target_ = "image", tokens_ = "printable";
};

const Registration<Attack, Pez> registration;

}  // namespace
}  // namespace excise
