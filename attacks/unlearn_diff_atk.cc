// What: a prefix found by gradients through the victim's denoising of a picture of the concept
// Paper: Zhang, Jia, Chen, Chen, Zhang, Liu, Ding, Liu, "To Generate or Not? Safety-Driven
//   Unlearned Diffusion Models Are Still Easy to Generate Unsafe Images ... For Now"
//   (UnlearnDiffAtk), ECCV 2024, arXiv 2310.11868
// Equation: min over distributions q of k prefix tokens of |eps - eps*(x_t, t, [q; p])|^2 + lambda
//   (|eps - eps'(x_t, t, [q; p])|^2 + (m + 0.02)+): q <- simplex(Adam(q, hardtanh(grad))), one
//   token drawn from q each pass; eps* of the victim's weights, eps' guided and through its hooks,
//   m the margins of its filter on the decoded predicted x0 and of its text hooks
// Reference: OPTML-Group/Diffusion-MU-Attack @ 5a3e5d3, src/attackers/text_grad_.py,
//   src/tasks/classifier_.py; lambda = 0 is what it does
// Deviations: adaptive by default (`lambda`): where the method has hooks, it adds one of the
//   sampler's steps through them, with guidance, and what they and its filter would object to, by a
//   hinge (58 % of 60 prompts of the split select got past latent_blend, 37 % at lambda = 0; 42 %
//   with the step and softplus of the margin alone, which goes on past the boundary and loses the
//   concept); prompts that do not fit are excluded with a reason instead of counted as failures;
//   when no candidate works, the one that the oracle rated highest is the attack's choice
// Needs: the victim with gradients, one picture of the unmodified model, and answers of the oracle:
//   the first one for the seed prompt itself (pre-attack success), then one a timestep until
//   success
// Caveats: best of `timesteps` + 1 tries on the searched noise; defaults are reduced for the emoji
//   backbone; preset "paper": 50 timesteps x 40 steps, 5 tokens, non-adaptive
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/one_hot.h>

#include "attacks/denoising_attack.h"
#include "attacks/tries.h"
#include "models/tensors/autograd.h"
#include "training/usable_tokens.h"

namespace excise {
namespace {

constexpr const char* kName = "unlearn_diff_atk";

class UnlearnDiffAtk : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("prefix_len", &prefix_len_, "tokens before the prompt", {.min = 1, .max = 75});
    v.Integer("timesteps", &timesteps_, "timesteps, each followed by a try",
              {.min = 1, .max = 1000});
    v.Integer("iterations", &iterations_, "gradient steps a timestep", {.min = 1});
    v.Integer("noise_draws", &noise_draws_, "draws of noise over which a step's loss is averaged",
              {.min = 1, .max = 256});
    v.Number("lr", &lr_, "learning rate of Adam", {.min = 0});
    v.Number("weight_decay", &weight_decay_, "weight decay of Adam, added to the gradient",
             {.min = 0});
    v.Number("lambda", &lambda_,
             "weight of what the victim's hooks make of a step, and of the margins of its filter "
             "and of its text hooks; 0: its weights alone, as published",
             {.min = 0});
    v.Choice(
        "tokens", &tokens_,
        "tokens that may be used: text on their own, such as pass a block-list of the known names, "
        "or all",
        {"printable", "unlisted", "all"});
    v.Integer("lanes", &lanes_,
              "prompts attacked together in one pass; memory grows with them, and what is found is "
              "the same up to rounding",
              {.min = 1, .max = 64});
  }
  int version() const override { return 3; }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"prefix_len", 5},
              {"timesteps", 50},
              {"iterations", 40},
              {"noise_draws", 1},
              {"lr", 0.01},
              {"weight_decay", 0.1},
              {"lambda", 0},
              {"tokens", "all"},
              {"lanes", 1}}},
            {"smoke", {{"timesteps", 2}, {"iterations", 2}, {"lanes", 2}}}};
  }
  // The budget (timesteps, iterations, noise_draws) is the experiment's, not the attack's.
  SearchSpace search_space() const override {
    return {{"prefix_len", {1, 3, 5, 8}}, {"lr", {0.01, 0.03, 0.1, 0.3}}, {"lambda", {0.1, 1}}};
  }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.unmodified = traits.gradients = true;
    traits.queries = timesteps_ + 1;
    traits.most.gradient_steps = timesteps_ * iterations_;
    traits.lanes = lanes_;
    return traits;
  }

  Work work(Acts victim) const override {
    const auto steps = static_cast<double>(timesteps_ * iterations_);
    const auto draws = static_cast<double>(noise_draws_);
    Work work = {{Pass::kPicture, static_cast<double>(timesteps_ + 1), 1},
                 {Pass::kTextGradient, steps, 1},
                 {Pass::kUNetGradient, steps, draws}};
    if (lambda_ == 0 || victim == Acts::kByWeights) return work;
    work.push_back({Pass::kUNetGradient, steps, 2 * draws});  // with guidance
    if (victim == Acts::kWhileDrawing) return work;
    // The predicted picture, and what the filter makes of it; a gradient is three passes.
    work.push_back({Pass::kDecoder, 3 * steps, draws});
    work.push_back({Pass::kVision, 3 * steps, draws});
    return work;
  }

  std::string Excludes(const Backbone& base, const Concept&, const Prompt& seed) const override {
    return ReasonWithoutRoom(base, seed, prefix_len_);
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    Lanes one({&target});
    return CraftTogether(one, subject, {seed}).front();
  }

  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept& subject,
                                        const std::vector<Prompt>& seeds) const override {
    RequireRoom(lanes, seeds, prefix_len_, kName);
    const Backbone& victim = lanes.any().Victim();
    LaneSearch search(lanes, seeds);
    search.Try([&](size_t lane, int64_t) { return seeds[lane]; });
    if (!search.Searches()) return search.Take();
    const PrefixedPrompts prefixed(
        victim, seeds, UsableTokens(*victim.tokenizer, tokens_, subject.known), prefix_len_);
    const DenoisingObjective objective(lanes.any(), search.Rows([&](size_t lane) {
      return lanes[lane]->ReferenceImages(seeds[lane], 1)[0];
    }),
                                       lambda_ > 0);
    const at::Tensor distributions =
        at::full({static_cast<int64_t>(lanes.size()), prefix_len_, prefixed.vocabulary()},
                 1.0 / static_cast<double>(prefixed.vocabulary()), at::kFloat);
    OptimizerSpec spec;
    spec.name = "adam";
    spec.lr = lr_;
    spec.weight_decay = weight_decay_;
    Optimizer optimizer(spec, {"distributions"}, {distributions});
    for (const DenoisingPoint& point : objective.Points(timesteps_)) {
      for (int64_t i = 0; i < iterations_; ++i) {
        Improve(prefixed, objective, point, distributions, &optimizer, &search);
      }
      search.Try([&](size_t lane, int64_t index) {
        return prefixed.Candidate(kName, lane, distributions[static_cast<int64_t>(lane)].argmax(1),
                                  index);
      });
      if (!search.Searches()) break;
    }
    return search.Take();
  }

 private:
  // One step of the distributions (lanes, prefix, usable), which are changed in place.
  void Improve(const PrefixedPrompts& prefixed, const DenoisingObjective& objective,
               const DenoisingPoint& point, const at::Tensor& distributions, Optimizer* optimizer,
               LaneSearch* search) const {
    const at::Tensor drawn = search->Rows([&](size_t lane) {
      return DrawTokens(distributions[static_cast<int64_t>(lane)], search->TokenRng(lane));
    });
    const at::Tensor noise = search->Rows(
        [&](size_t lane) { return objective.DrawNoise(noise_draws_, search->NoiseRng(lane)); });
    at::Tensor one_hot = at::one_hot(drawn, prefixed.vocabulary()).to(at::kFloat);
    one_hot.requires_grad_(true);
    // The sum: what one lane loses does not depend on another's tokens.
    const at::Tensor loss =
        objective.Score(prefixed.Embed(one_hot), prefixed.Ids(drawn), point, noise.flatten(0, 1))
            .Total(lambda_)
            .sum();
    // Straight through: the gradient at the drawn tokens moves the distribution.
    StepOnSimplex(Gradients(loss, {one_hot})[0], optimizer, distributions);
    search->Spend(objective.TakeCosts());
  }

  int64_t prefix_len_ = 5, timesteps_ = 2, iterations_ = 5, noise_draws_ = 1, lanes_ = 10;
  double lr_ = 0.01, weight_decay_ = 0.1, lambda_ = 0.1;
  std::string tokens_ = "printable";
};

const Registration<Attack, UnlearnDiffAtk> registration;

}  // namespace
}  // namespace excise
