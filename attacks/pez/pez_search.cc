#include "attacks/pez/pez_search.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>

#include <utility>

#include "models/tensors/autograd.h"
#include "training/optimizers.h"

namespace excise {
namespace {

// What the victim adds to the loss of each sequence, (lanes, restarts): `features` (lanes, n,
// projection) are what the prompts should mean.
at::Tensor Extra(const VictimText::View& view, const at::Tensor& features) {
  const int64_t lanes = features.size(0);
  at::Tensor extra;
  if (view.embeds.defined()) {
    const at::Tensor embeds = view.embeds.view({lanes, -1, view.embeds.size(1)});
    extra = 1 - at::matmul(embeds, features.transpose(1, 2)).mean(2);
  }
  if (!view.alarm.defined()) return extra;
  const at::Tensor alarm = view.alarm.view({lanes, -1});
  return extra.defined() ? extra + alarm : alarm;
}

// For each lane the number of the target that it aims at in this step, (lanes, 1, 1).
at::Tensor Aims(const at::Tensor& features, std::vector<Philox>* rng) {
  std::vector<int64_t> aims;
  for (Philox& own : *rng) aims.push_back(static_cast<int64_t>(own.Below(features.size(1))));
  return at::tensor(aims, at::kLong).view({-1, 1, 1}).to(features.device());
}

}  // namespace

void PezSearch::Fields(ParamVisitor& v, bool own_target) {
  v.Integer("prompt_len", &prompt_len, "tokens of the prompt", {.min = 1, .max = 75});
  v.Integer("iterations", &iterations, "gradient steps", {.min = 1});
  v.Integer("restarts", &restarts, "prompts optimised side by side", {.min = 1, .max = 256});
  v.Number("lr", &lr, "learning rate of AdamW", {.min = 0});
  v.Number("weight_decay", &weight_decay, "weight decay of AdamW", {.min = 0});
  if (!own_target) {
    v.Choice("target", &target_kind,
             "what the prompt should mean: pictures that the unmodified model draws for the seed "
             "prompt, or the seed prompt's text",
             {"image", "text"});
  }
  v.Integer("reference_images", &reference_images, "pictures a prompt", {.min = 1, .max = 64});
  v.Integer("lanes", &lanes,
            "prompts attacked together in one pass; what is found is the same up to rounding",
            {.min = 1, .max = 64});
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
            {"lr", 0.1},
            {"weight_decay", 0.1},
            {"target", "image"},
            {"tokens", "all"},
            {"lanes", 1}}},
          {"smoke", {{"iterations", 4}, {"restarts", 1}, {"reference_images", 1}, {"lanes", 2}}}};
}

at::Tensor PezSearch::Features(Lanes& lanes, const std::vector<Prompt>& prompts,
                               const PictureEdit& edit) const {
  std::vector<at::Tensor> rows(lanes.size());
  for (size_t lane = 0; lane < lanes.size(); ++lane) {
    if (lanes[lane] == nullptr) continue;
    rows[lane] = target_kind == "image"
                     ? ImageTargets(*lanes[lane], prompts[lane], reference_images, edit)
                     : TextTarget(*lanes[lane], prompts[lane]);
  }
  return StackLanes(std::move(rows));
}

at::Tensor PezSearch::Starts(const TokenTable& table, std::vector<Philox>* rng) const {
  std::vector<at::Tensor> rows;
  for (Philox& own : *rng) rows.push_back(table.RandomIds(restarts, prompt_len, &own));
  return at::cat(rows);
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
  traits.lanes = lanes;
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

std::vector<Trajectory> PezSearch::Run(std::string_view name, Lanes& lanes, const Concept& subject,
                                       const std::vector<Prompt>& prompts, const VictimText& victim,
                                       double lambda, const PictureEdit& edit) const {
  const ClipModel& clip = lanes.any().Surrogate();
  const bool adapts = lambda != 0 && victim.offers();
  const at::Tensor features = Features(lanes, prompts, edit);
  const HardPromptScorer scorer(clip, features,
                                UsableTokens(*clip.tokenizer, tokens, subject.known), prompt_len);
  const TokenTable& table = scorer.tokens();
  std::vector<Philox> rng;
  for (size_t lane = 0; lane < lanes.size(); ++lane) {
    rng.push_back((lanes[lane] == nullptr ? lanes.any() : *lanes[lane]).Rng(prompts[lane]));
  }
  at::Tensor soft = table.Embed(Starts(table, &rng)).detach().clone();
  OptimizerSpec spec;
  spec.name = "adamw";
  spec.lr = lr;
  spec.weight_decay = weight_decay;
  Optimizer optimizer(spec, {"soft_prompt"}, {soft});

  std::vector<Trajectory> found(lanes.size());
  for (int64_t iteration = 0; iteration < iterations; ++iteration) {
    const at::Tensor ids = table.Nearest(soft);
    at::Tensor hard = table.Embed(ids).detach().requires_grad_(true);
    const at::Tensor similarities = scorer.Similarities(hard);  // (lanes, restarts, targets)
    at::Tensor scores = similarities.detach().mean(2);
    VictimText::View view;
    if (adapts) {
      view = victim.Evaluate(ids, hard);
      scores = scores - lambda * Extra(view, features).detach();
    }
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      if (lanes[lane] == nullptr) continue;
      Ledger& ledger = lanes[lane]->ledger();
      ledger.candidate_evaluations += restarts;
      ledger.text_evaluations += restarts * (adapts ? 2 : 1);
      const auto row = static_cast<int64_t>(lane);
      KeepBest(name, *clip.tokenizer, prompts[lane], ids.narrow(0, row * restarts, restarts),
               scores[row], ledger, &found[lane]);
      ledger.gradient_steps += restarts;
    }
    const at::Tensor aims = Aims(features, &rng);  // (lanes, 1, 1)
    at::Tensor loss = similarities.gather(2, aims.expand({-1, restarts, 1})).neg().sum();
    if (adapts) {
      const at::Tensor aim = features.gather(1, aims.expand({-1, 1, features.size(2)}));
      loss = loss + lambda * Extra(view, aim).sum();
    }
    // The sum: what one lane loses does not depend on another's tokens. The gradient at the
    // projected point moves the soft one (straight through).
    optimizer.Step(Gradients(loss, {hard}));
  }
  return found;
}

}  // namespace excise
