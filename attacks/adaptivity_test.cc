// That the adaptive attacks see the defences: their extra terms have gradients and change the order
// of candidates, lambda = 0 is the attack that they adapt, and by their own measure they find no
// worse prompts than it does at equal budget. (In the released "adaptive" attacks that we know of
// the extra terms are constants.)
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "attacks/denoising_attack.h"
#include "attacks/hard_prompt.h"
#include "attacks/pez/pez_search.h"
#include "attacks/ring_a_bell/ring_a_bell_search.h"
#include "attacks/victim_text.h"
#include "core/error.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

// Two latent streams, for the prompt and for a safe text, mixed after each step.
class BlendHooks : public Hooks {
 public:
  BlendHooks(at::Tensor safe, double weight) : safe_(std::move(safe)), weight_(weight) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<Run>(safe_, weight_);
  }
  at::Tensor TextView(const TextBatch& text) const override {
    return (1 - weight_) * text.states + weight_ * safe_;
  }

 private:
  struct Run : HookRun {
    Run(at::Tensor safe, double weight) : safe(std::move(safe)), weight(weight) {}
    at::Tensor Fork(at::Tensor latents) override { return at::cat({latents, latents}); }
    at::Tensor Join(at::Tensor latents) override {
      return latents.narrow(0, 0, latents.size(0) / 2);
    }
    std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t) override {
      return {at::cat({batch.empty_states, batch.empty_states}),
              at::cat({batch.prompt_states, safe.expand_as(batch.prompt_states)})};
    }
    at::Tensor Combine(const GuidanceBatch& batch, int64_t,
                       const std::vector<at::Tensor>& predictions) override {
      return predictions[0] + batch.guidance_scale * (predictions[1] - predictions[0]);
    }
    at::Tensor Mix(int64_t, at::Tensor latents) override {
      const int64_t n = latents.size(0) / 2;
      const at::Tensor mixed =
          (1 - weight) * latents.narrow(0, 0, n) + weight * latents.narrow(0, n, n);
      return at::cat({mixed, mixed});
    }
    at::Tensor safe;
    double weight;
  };
  at::Tensor safe_;
  double weight_;
};

// A filter on the picture's redness, and one on the text's embedding.
class FilterHooks : public Hooks, public ImageFilter {
 public:
  const ImageFilter* Filter() const override { return this; }
  at::Tensor Score(const at::Tensor& images) const override {
    return 20 * (images.select(1, 0) - images.select(1, 2)).mean({1, 2});
  }
  double Threshold() const override { return 0; }
  // Above 0 for every text: behind the boundary the hinge has no gradient.
  at::Tensor TextMargin(const TextBatch& text) const override {
    return 8 * (1 + text.pooled.select(1, 0));
  }
};

struct Defence {
  std::string name;
  std::function<void(Backbone*)> change;
  std::shared_ptr<const Hooks> hooks;
};

std::vector<Defence> Defences() {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const at::Tensor safe = EncodeText(base, TokenizeBatch(*base.tokenizer, {"a dog"}, 16));
  const auto retuned = [](Backbone* backbone) {
    // As a fine-tuned encoder: attention weights moved, everything else shared.
    const StateDict other = TinyClip(99).weights;
    for (const auto& [name, tensor] : TinyClip().weights) {
      if (name.find("text_model.encoder") == std::string::npos || tensor.dim() != 2) continue;
      backbone->text_encoder.Set(name, tensor + 0.5 * other.Get(name));
    }
  };
  return {{"safe-tuned text encoder", retuned, nullptr},
          {"filter margin", nullptr, std::make_shared<FilterHooks>()},
          {"both blend branches", nullptr, std::make_shared<BlendHooks>(safe, 0.6)}};
}

// A U-Net of random weights hardly listens to text; this one does.
void LetTextMatter(Backbone* backbone) {
  const NoGrad no_grad;
  const StateDict before = backbone->unet;
  for (const auto& [name, tensor] : before) {
    if (name.find("attn2.to_out") != std::string::npos) backbone->unet.Set(name, 30 * tensor);
  }
}

void Defend(const Defence& defence, TinyTarget* target) {
  target->Defend(defence.hooks.get());
  if (defence.change) defence.change(&target->victim);
}

Trajectory Craft(const std::string& name, const Json& params, TinyTarget* target) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make(name);
  DecodeParams(params, *attack, "test");
  return attack->Craft(*target, TinyConcept(), TinyPrompt());
}

void CheckSameSearch(const Trajectory& a, const Trajectory& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].prompt.text == b[i].prompt.text);
    CHECK(a[i].prompt.token_ids == b[i].prompt.token_ids);
    CHECK(a[i].score == b[i].score);
    CHECK(a[i].ledger.candidate_evaluations == b[i].ledger.candidate_evaluations);
    CHECK(a[i].ledger.text_evaluations == b[i].ledger.text_evaluations);
    CHECK(a[i].ledger.unet_evaluations == b[i].ledger.unet_evaluations);
  }
}

std::vector<std::string> Texts(const Trajectory& trajectory) {
  std::vector<std::string> texts;
  for (const Candidate& candidate : trajectory) texts.push_back(candidate.prompt.text);
  return texts;
}

at::Tensor IdsOf(const Candidate& candidate) {
  return at::tensor(candidate.prompt.token_ids, at::kLong).unsqueeze(0);
}

// What pez_adaptive maximises, written down again.
double PezMeasure(TinyTarget& target, const Candidate& candidate, double lambda) {
  const NoGrad no_grad;
  const ClipModel& clip = target.Surrogate();
  const at::Tensor features = ImageTargets(target, TinyPrompt(), 2);
  const at::Tensor ids = IdsOf(candidate);
  const HardPromptScorer scorer(clip, features, {5}, ids.size(1));
  double value = scorer.Similarities(scorer.tokens().Embed(ids)).mean().item<double>();
  const VictimText::View view = VictimText(target).Evaluate(ids);
  if (view.embeds.defined()) {
    value -= lambda * (1 - at::matmul(view.embeds, features.t()).mean().item<double>());
  }
  if (view.alarm.defined()) value -= lambda * view.alarm.item<double>();
  return value;
}

// What ring_a_bell_adaptive maximises, term by term.
struct BellMeasure {
  explicit BellMeasure(TinyTarget& target) : target(target), victim(target) {
    const NoGrad no_grad;
    aim = TextStates(target.Surrogate(), {TinyPrompt().text})[0] +
          3 * ConceptVector(target, TinyConcept(), {"{}", "a photo of {}", "an icon of {}"});
    silence = -StateFitness(TextStates(target.Surrogate(), {""}), aim).item<double>();
  }
  at::Tensor Base(const at::Tensor& ids) const {
    const NoGrad no_grad;
    const ClipModel& clip = target.Surrogate();
    const at::Tensor framed = FrameIds(*clip.tokenizer, ids, 16);
    return StateFitness(ClipTextForward(clip.config.text, clip.weights,
                                        ClipTokenEmbeddings(clip.weights, framed), framed)
                            .last_hidden_state,
                        aim);
  }
  at::Tensor Extra(const at::Tensor& ids) const {
    const NoGrad no_grad;
    const VictimText::View view = victim.Evaluate(ids);
    at::Tensor extra = Base(ids) * 0;
    if (view.states.defined()) extra = extra + StateFitness(view.states, aim);
    if (view.alarm.defined()) extra = extra - silence * view.alarm;
    return extra;
  }
  TinyTarget& target;
  VictimText victim;
  at::Tensor aim;
  double silence = 0;
};

at::Tensor RandomIds(int64_t n, uint64_t seed) {
  const std::vector<int64_t> usable = UsableTokens(*TinyTokenizer(), "printable", {});
  Philox rng({seed, "ids", 0, Stream::kAttack, 0});
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < 5 * n; ++i) ids.push_back(usable[rng.Below(usable.size())]);
  return at::tensor(ids, at::kLong).view({n, 5});
}

}  // namespace

TEST_CASE("lambda = 0 is the base attack bit for bit, against every defence") {
  const Json pez = {{"prompt_len", 4}, {"iterations", 15}, {"reference_images", 2}};
  const Json bell = {
      {"prompt_len", 5}, {"population", 10}, {"generations", 8}, {"eta", 0.5}, {"elite", 0}};
  for (const auto& [base, params] : {std::pair{"pez", pez}, std::pair{"ring_a_bell", bell}}) {
    for (const Defence& defence : Defences()) {
      INFO(base << " against " << defence.name);
      Json silent = params;
      silent["lambda"] = 0;
      TinyTarget one, two, three;
      for (TinyTarget* target : {&one, &two, &three}) Defend(defence, target);
      const Trajectory plain = Craft(base, params, &one);
      CheckSameSearch(plain, Craft(std::string(base) + "_adaptive", silent, &two));
      // And with lambda = 1 the same budget goes another way.
      Json loud = params;
      loud["lambda"] = 1;
      const Trajectory adapted = Craft(std::string(base) + "_adaptive", loud, &three);
      CHECK(Texts(adapted) != Texts(plain));
      CHECK(three.ledger().gradient_steps == one.ledger().gradient_steps);
    }
  }
}

TEST_CASE("where nothing is offered, an adaptive form is the base attack bit for bit") {
  const Json params = {{"prompt_len", 4}, {"iterations", 8}, {"reference_images", 1}};
  TinyTarget one, two;
  CheckSameSearch(Craft("pez", params, &one), Craft("pez_adaptive", params, &two));
  const Json bell = {{"prompt_len", 5}, {"population", 10}, {"generations", 5}};
  TinyTarget three, four;
  CheckSameSearch(Craft("ring_a_bell", bell, &three), Craft("ring_a_bell_adaptive", bell, &four));
}

TEST_CASE("pez: what the defence adds has a gradient in the tokens") {
  for (const Defence& defence : Defences()) {
    INFO(defence.name);
    TinyTarget target;
    Defend(defence, &target);
    const VictimText victim(target);
    REQUIRE(victim.offers());
    const at::Tensor features = TextTarget(target, TinyPrompt());
    const at::Tensor ids = RandomIds(2, 1);
    at::Tensor soft = ClipTokenEmbeddings(target.Surrogate().weights, ids).detach().clone();
    soft.requires_grad_(true);
    const VictimText::View view = victim.Evaluate(ids, soft);
    CHECK(view.embeds.defined() == (defence.name != "filter margin"));
    CHECK(view.alarm.defined() == (defence.name == "filter margin"));
    const at::Tensor extra =
        view.alarm.defined() ? view.alarm.sum() : -at::matmul(view.embeds, features.t()).sum();
    const at::Tensor gradient = Gradients(extra, {soft})[0];
    for (int64_t row = 0; row < 2; ++row) CHECK(gradient[row].norm().item<double>() > 1e-6);
    // The term is the candidate's own: it differs from candidate to candidate.
    const at::Tensor own = view.alarm.defined() ? view.alarm : view.embeds.select(1, 0);
    CHECK(std::abs((own[0] - own[1]).item<double>()) > 1e-6);
  }
}

TEST_CASE("ring_a_bell: what the defence adds changes the order of candidates; a constant cannot") {
  const at::Tensor ids = RandomIds(40, 2);
  for (const Defence& defence : Defences()) {
    INFO(defence.name);
    TinyTarget target;
    Defend(defence, &target);
    const BellMeasure measure(target);
    const at::Tensor base = measure.Base(ids), extra = measure.Extra(ids);
    CHECK_FALSE((base + extra).argsort().equal(base.argsort()));
    CHECK(base.add(-7.5).argsort().equal(base.argsort()));  // as released: of the target alone
    CHECK((extra.max() - extra.min()).item<double>() > 1e-3);
  }
}

TEST_CASE("pez and ring_a_bell: by its own measure the adaptive form is no worse at equal budget") {
  const Json pez = {{"prompt_len", 4},
                    {"iterations", 40},
                    {"reference_images", 2},
                    {"lr", 0.01},
                    {"target", "image"}};
  const Json bell = {{"prompt_len", 5}, {"population", 16}, {"generations", 15}, {"eta", 3}};
  const auto adaptive = [](Json params) {
    params["lambda"] = 1;
    return params;
  };
  for (const Defence& defence : Defences()) {
    INFO(defence.name);
    double pez_gain = 0, bell_gain = 0;
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      TinyTarget one(nullptr, seed), two(nullptr, seed), three(nullptr, seed), four(nullptr, seed);
      for (TinyTarget* target : {&one, &two, &three, &four}) Defend(defence, target);
      const Trajectory plain = Craft("pez", pez, &one);
      const Trajectory adapted = Craft("pez_adaptive", adaptive(pez), &two);
      CHECK(adapted.back().score == Approx(PezMeasure(two, adapted.back(), 1)).margin(1e-5));
      pez_gain += adapted.back().score - PezMeasure(two, plain.back(), 1);
      CHECK(one.ledger().candidate_evaluations == two.ledger().candidate_evaluations);

      const Trajectory plain_bell = Craft("ring_a_bell", bell, &three);
      const Trajectory adapted_bell = Craft("ring_a_bell_adaptive", adaptive(bell), &four);
      const BellMeasure measure(four);
      const auto value = [&](const Candidate& candidate) {
        const at::Tensor ids = IdsOf(candidate);
        return (measure.Base(ids) + measure.Extra(ids)).item<double>();
      };
      CHECK(adapted_bell.back().score == Approx(value(adapted_bell.back())).epsilon(1e-4));
      bell_gain += adapted_bell.back().score - value(plain_bell.back());
    }
    CHECK(pez_gain >= 0);
    CHECK(bell_gain >= 0);
  }
}

TEST_CASE("unlearn_diff_atk: the loss follows the victim through every defence") {
  for (const Defence& defence : Defences()) {
    INFO(defence.name);
    TinyTarget target, bare;
    Defend(defence, &target);
    const at::Tensor picture = TinyImages(1, 9);
    const DenoisingObjective adaptive(target, picture, true), published(bare, picture, false);
    const DenoisingPoint point = adaptive.Points(3)[1];
    Philox rng({6, "noise", 0, Stream::kAttack, 0});
    const at::Tensor noise = adaptive.DrawNoise(2, &rng);
    const at::Tensor ids = TokenizeBatch(*TinyTokenizer(), {"a cat picture"}, 16);
    const auto gradient = [&](const DenoisingObjective& objective, const Backbone& victim,
                              bool alarm) {
      at::Tensor tokens = ClipTokenEmbeddings(victim.text_encoder, ids).detach().clone();
      tokens.requires_grad_(true);
      const DenoisingObjective::Terms terms = objective.Score(tokens, ids, point, noise);
      return Gradients(alarm ? terms.alarm : terms.Total(1), {tokens})[0];
    };
    const at::Tensor seen = gradient(adaptive, target.victim, false);
    const at::Tensor unseen = gradient(published, bare.victim, false);
    CHECK(seen.norm().item<double>() > 0);
    CHECK((seen - unseen).norm().item<double>() > 1e-3 * unseen.norm().item<double>());
    if (defence.name == "filter margin") {
      CHECK(gradient(adaptive, target.victim, true).norm().item<double>() > 1e-7);
    }
  }
}

TEST_CASE("unlearn_diff_atk: both blend branches are in the loss") {
  const Backbone base = TinyBackbone();
  at::Tensor safe =
      EncodeText(base, TokenizeBatch(*base.tokenizer, {"a dog"}, 16)).detach().clone();
  safe.requires_grad_(true);
  const BlendHooks hooks(safe, 0.6);
  TinyTarget target(&hooks);
  const DenoisingObjective objective(target, TinyImages(1, 9), true);
  Philox rng({7, "noise", 0, Stream::kAttack, 0});
  const at::Tensor noise = objective.DrawNoise(2, &rng);
  const at::Tensor ids = TokenizeBatch(*TinyTokenizer(), {"a cat picture"}, 16);
  at::Tensor tokens = ClipTokenEmbeddings(base.text_encoder, ids).detach().clone();
  tokens.requires_grad_(true);
  const at::Tensor loss = objective.Score(tokens, ids, objective.Points(3)[1], noise).Total(1);
  const std::vector<at::Tensor> gradients = Gradients(loss, {tokens, safe});
  for (const at::Tensor& gradient : gradients) CHECK(gradient.norm().item<double>() > 0);
  // Draws, streams and guidance in one call, and the weights alone.
  CHECK(objective.TakeCosts()[0].unet_evaluations == 2 * 2 * 2 + 2);
}

TEST_CASE("unlearn_diff_atk: at lambda = 0 it is blind to hooks, bit for bit") {
  const Json published = {{"timesteps", 1}, {"iterations", 3}, {"lambda", 0}};
  for (const Defence& defence : Defences()) {
    if (defence.hooks == nullptr) continue;
    INFO(defence.name);
    TinyTarget defended, bare, adapted;
    Defend(defence, &defended);
    Defend(defence, &adapted);
    for (TinyTarget* target : {&defended, &bare, &adapted}) target->red_enough = 2;
    Craft("unlearn_diff_atk", published, &defended);
    Craft("unlearn_diff_atk", published, &bare);
    Json open_eyed = published;
    open_eyed["lambda"] = 1;
    Craft("unlearn_diff_atk", open_eyed, &adapted);
    CHECK(defended.asked == bare.asked);
    CHECK(adapted.asked != bare.asked);
  }
}

TEST_CASE("unlearn_diff_atk: by its own measure the adaptive form is no worse at equal budget") {
  for (const Defence& defence : Defences()) {
    if (defence.hooks == nullptr) continue;  // its weights are all that there is
    INFO(defence.name);
    double gain = 0;
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      const Json budget = {{"timesteps", 2},   {"iterations", 9}, {"prefix_len", 6},
                           {"noise_draws", 2}, {"lr", 0.3},       {"lambda", 1}};
      Json published = budget;
      published["lambda"] = 0;
      TinyTarget one(nullptr, seed), two(nullptr, seed);
      double measured[2];
      TinyTarget* targets[] = {&one, &two};
      for (int i = 0; i < 2; ++i) {
        Defend(defence, targets[i]);
        LetTextMatter(&targets[i]->victim);
        targets[i]->red_enough = 2;
        Craft("unlearn_diff_atk", i == 0 ? published : budget, targets[i]);
        // Of the prompt that the search came to, on fresh noise at the search's own points.
        const NoGrad no_grad;
        const DenoisingObjective objective(*targets[i],
                                           targets[i]->ReferenceImages(TinyPrompt(), 1), true);
        const at::Tensor ids = TokenizeBatch(*TinyTokenizer(), {targets[i]->asked.back()}, 16);
        Philox rng({8, "noise", 0, Stream::kAttack, 0});
        const at::Tensor noise = objective.DrawNoise(6, &rng);
        measured[i] = 0;
        for (const DenoisingPoint& point : objective.Points(2)) {
          measured[i] += objective
                             .Score(ClipTokenEmbeddings(targets[i]->victim.text_encoder, ids), ids,
                                    point, noise)
                             .Total(1)
                             .item<double>();
        }
      }
      CHECK(one.ledger().gradient_steps == two.ledger().gradient_steps);
      gain += measured[0] - measured[1];
    }
    CHECK(gain >= 0);
  }
}

TEST_CASE("adaptive forms refuse a surrogate that cannot read the victim's tokens") {
  struct OtherSurrogate : TinyTarget {
    const ClipModel& Surrogate() override {
      static const ClipModel clip = [] {
        ClipModel made = TinyClip();
        made.config.text.max_position_embeddings = 12;
        return made;
      }();
      return clip;
    }
  } target;
  CHECK_THROWS_WITH(Craft("pez_adaptive", {{"iterations", 1}}, &target),
                    Catch::Contains("surrogate"));
}

}  // namespace excise
