#include "attacks/pez/pez_search.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>

#include "attacks/hard_prompt.h"
#include "models/tensors/autograd.h"
#include "training/optimizers.h"

namespace excise {
namespace {

// What the victim adds to the loss of each sequence, (restarts): `features` (n, projection) are
// what the prompt should mean.
at::Tensor Extra(const VictimText::View& view, const at::Tensor& features) {
  at::Tensor extra;
  if (view.embeds.defined()) extra = 1 - at::matmul(view.embeds, features.t()).mean(1);
  if (!view.alarm.defined()) return extra;
  return extra.defined() ? extra + view.alarm : view.alarm;
}

}  // namespace

void PezSearch::Fields(ParamVisitor& v) {
  v.Integer("prompt_len", &prompt_len, "tokens of the prompt", {.min = 1, .max = 75});
  v.Integer("iterations", &iterations, "gradient steps", {.min = 1});
  v.Integer("restarts", &restarts, "prompts optimised side by side", {.min = 1, .max = 256});
  v.Number("lr", &lr, "learning rate of AdamW", {.min = 0});
  v.Number("weight_decay", &weight_decay, "weight decay of AdamW", {.min = 0});
  v.Choice("target", &target_kind,
           "what the prompt should mean: pictures that the unmodified model draws for the seed "
           "prompt, or the seed prompt's text",
           {"image", "text"});
  v.Integer("reference_images", &reference_images, "pictures a prompt", {.min = 1, .max = 64});
  v.Choice(
      "tokens", &tokens,
      "tokens that may be used: text on their own, such as pass a block-list of the known names, "
      "or all",
      {"printable", "unlisted", "all"});
}

std::map<std::string, Json> PezSearch::Presets() {
  return {{"paper",
           {{"prompt_len", 16},
            {"iterations", 3000},
            {"restarts", 1},
            {"weight_decay", 0.1},
            {"tokens", "all"}}},
          {"smoke", {{"iterations", 4}, {"restarts", 1}, {"reference_images", 1}}}};
}

// The budget (iterations, restarts) is the experiment's, not the attack's.
SearchSpace PezSearch::Space() {
  return {{"prompt_len", {4, 8, 12, 16}},
          {"lr", {0.03, 0.1, 0.3}},
          {"weight_decay", {0, 0.1}},
          {"target", {"image", "text"}}};
}

AttackTraits PezSearch::traits() const {
  AttackTraits traits;
  traits.surrogate = true;
  traits.unmodified = target_kind == "image";
  traits.most.gradient_steps = traits.most.candidate_evaluations = iterations * restarts;
  return traits;
}

Work PezSearch::work() const {
  // The encoder reads the sequences alone, without padding: all of them are about one row.
  Work work = {{Pass::kTextGradient, static_cast<double>(iterations), 1}};
  if (target_kind == "image") {
    work.push_back({Pass::kPicture, 1, static_cast<double>(reference_images)});
  }
  return work;
}

Trajectory PezSearch::Run(std::string_view name, Target& target, const Concept& subject,
                          const Prompt& prompt, const VictimText& victim, double lambda) const {
  const ClipModel& clip = target.Surrogate();
  const at::Tensor features = target_kind == "image"
                                  ? ImageTargets(target, prompt, reference_images)
                                  : TextTarget(target, prompt);
  const HardPromptScorer scorer(clip, features,
                                UsableTokens(*clip.tokenizer, tokens, subject.known), prompt_len);
  const TokenTable& table = scorer.tokens();
  const bool adapts = lambda != 0 && victim.offers();
  Philox rng = target.Rng(prompt);
  at::Tensor soft = table.Embed(table.RandomIds(restarts, prompt_len, &rng)).detach().clone();
  OptimizerSpec spec;
  spec.name = "adamw";
  spec.lr = lr;
  spec.weight_decay = weight_decay;
  Optimizer optimizer(spec, {"soft_prompt"}, {soft});

  Trajectory trajectory;
  for (int64_t iteration = 0; iteration < iterations; ++iteration) {
    const at::Tensor ids = table.Nearest(soft);
    at::Tensor hard = table.Embed(ids).detach().requires_grad_(true);
    const at::Tensor similarities = scorer.Similarities(hard);  // (restarts, targets)
    target.ledger().candidate_evaluations += restarts;
    target.ledger().text_evaluations += restarts * (adapts ? 2 : 1);
    at::Tensor scores = similarities.detach().mean(1);
    VictimText::View view;
    if (adapts) {
      view = victim.Evaluate(ids, hard);
      scores = scores - lambda * Extra(view, features).detach();
    }
    KeepBest(name, *clip.tokenizer, prompt, ids, scores, target.ledger(), &trajectory);
    const auto aim = static_cast<int64_t>(rng.Below(features.size(0)));
    at::Tensor loss = similarities.select(1, aim).neg().sum();
    if (adapts) loss = loss + lambda * Extra(view, features.narrow(0, aim, 1)).sum();
    // The gradient at the projected point moves the soft one (straight through).
    optimizer.Step(Gradients(loss, {hard}));
    target.ledger().gradient_steps += restarts;
  }
  return trajectory;
}

}  // namespace excise
