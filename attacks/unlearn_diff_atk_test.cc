#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "attacks/denoising_attack.h"
#include "attacks/victim_text.h"
#include "core/error.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

std::unique_ptr<Attack> Make(const Json& params) {
  std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("unlearn_diff_atk");
  DecodeParams(params, *attack, "test");
  return attack;
}

Trajectory Craft(const Json& params, TinyTarget* target, const Prompt& seed = TinyPrompt()) {
  const std::unique_ptr<Attack> attack = Make(params);
  return attack->Craft(*target, TinyConcept(), seed);
}

// Hooks whose run changes nothing.
class IdleHooks : public Hooks {};

// Draws something else whatever is asked for, and says by how much it objects.
class SafeHooks : public Hooks {
 public:
  SafeHooks(at::Tensor safe, double margin) : safe_(std::move(safe)), margin_(margin) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<Run>(safe_);
  }
  at::Tensor TextMargin(const TextBatch& text) const override {
    return at::full({text.states.size(0)}, margin_, at::kFloat);
  }

 private:
  struct Run : HookRun {
    explicit Run(at::Tensor safe) : safe(std::move(safe)) {}
    std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t) override {
      return {batch.empty_states, safe.expand_as(batch.prompt_states)};
    }
    at::Tensor safe;
  };
  at::Tensor safe_;
  double margin_;
};

}  // namespace

TEST_CASE("simplex: the nearest point, by hand and by its conditions") {
  // (0.7, 0.5, -0.4): tau = 0.1; a point of the simplex stays; far away, one corner.
  const at::Tensor rows =
      at::tensor({0.7, 0.5, -0.4, 0.2, 0.3, 0.5, 0.0, 9.0, 1.0}, at::kDouble).view({3, 3});
  const at::Tensor wanted =
      at::tensor({0.6, 0.4, 0.0, 0.2, 0.3, 0.5, 0.0, 1.0, 0.0}, at::kDouble).view({3, 3});
  CHECK(ProjectToSimplex(rows).sub(wanted).abs().max().item<double>() < 1e-12);

  // 1,000 coordinates: nonnegative, sum 1, and one tau for all that are positive (KKT conditions).
  Philox rng({1, "simplex", 0, Stream::kAttack, 0});
  at::Tensor many = at::full({4, 1000}, 1e-3);
  for (int64_t i = 0; i < many.numel(); ++i) {
    many.data_ptr<float>()[i] += static_cast<float>(rng.Uniform(-0.01, 0.01));
  }
  const at::Tensor projected = ProjectToSimplex(many);
  CHECK(projected.ge(0).all().item<bool>());
  CHECK(projected.sum(1).sub(1).abs().max().item<double>() < 1e-5);
  for (int64_t row = 0; row < 4; ++row) {
    const at::Tensor moved = (many[row] - projected[row]).to(at::kDouble);
    const at::Tensor inside = projected[row].gt(0);
    const at::Tensor taus = moved.masked_select(inside);
    CHECK((taus.max() - taus.min()).item<double>() < 1e-6);
    const at::Tensor outside = many[row].masked_select(inside.logical_not());
    if (outside.numel() > 0)
      CHECK(outside.max().item<double>() <= taus.min().item<double>() + 1e-6);
  }
}

TEST_CASE("simplex: tokens are drawn in proportion") {
  Philox rng({2, "draw", 0, Stream::kAttack, 0});
  const at::Tensor distribution = at::tensor({0.0, 0.25, 0.0, 0.75, 0.0}, at::kFloat).view({1, 5});
  int64_t counts[5] = {};
  for (int i = 0; i < 4000; ++i) ++counts[DrawTokens(distribution, &rng).item<int64_t>()];
  CHECK(counts[0] + counts[2] + counts[4] == 0);
  // Binomial: 1,000 +- 27.4; five deviations.
  CHECK(std::abs(counts[1] - 1000) < 137);
}

TEST_CASE("unlearn_diff_atk: the loss is the error of the predicted noise, the long way") {
  const NoGrad no_grad;
  TinyTarget target;
  const Backbone& victim = target.victim;
  const at::Tensor picture = TinyImages(1, 9);
  const DenoisingObjective objective(target, picture, false);
  const std::vector<DenoisingPoint> points = objective.Points(50);
  REQUIRE(points.size() == 50);
  CHECK(points[0].timestep == 10);  // 10, 30, ..., 990
  CHECK(points[1].timestep == 30);
  CHECK(points[49].timestep == 990);

  Philox rng({3, "noise", 0, Stream::kAttack, 0});
  const at::Tensor noise = objective.DrawNoise(3, &rng);
  const at::Tensor ids = TokenizeBatch(*victim.tokenizer, {"a picture of a dog"}, 16);
  const at::Tensor loss =
      objective.Score(ClipTokenEmbeddings(victim.text_encoder, ids), ids, points[20], noise)
          .denoising;
  // abar of the scaled-linear schedule, in double precision.
  double abar = 1;
  for (int t = 0; t <= 410; ++t) {
    const double root = std::sqrt(0.00085) + t * (std::sqrt(0.012) - std::sqrt(0.00085)) / 999;
    abar *= 1 - root * root;
  }
  const at::Tensor x0 = VaeEncode(victim.vae_config, victim.vae, picture * 2 - 1).mean * 0.18215;
  double sum = 0;
  for (int64_t i = 0; i < 3; ++i) {
    const at::Tensor x = std::sqrt(abar) * x0 + std::sqrt(1 - abar) * noise[i].unsqueeze(0);
    const at::Tensor predicted = UNetForward(
        victim.unet_config, victim.unet, x, at::full({1}, 410, at::kLong), EncodeText(victim, ids));
    sum += (predicted - noise[i]).pow(2).mean().item<double>() / 3;
  }
  CHECK(loss.item<double>() == Approx(sum).epsilon(1e-5));
}

TEST_CASE("unlearn_diff_atk: gradients lower the loss at the points they saw") {
  // The distribution's expected loss before and after, on the same noise: many steps at one point.
  TinyTarget target;
  const Backbone& victim = target.victim;
  const DenoisingObjective objective(target, TinyImages(1, 9), false);
  const DenoisingPoint point = objective.Points(4)[2];
  Philox rng({4, "noise", 0, Stream::kAttack, 0});
  const at::Tensor noise = objective.DrawNoise(8, &rng);
  const at::Tensor ids = TokenizeBatch(*victim.tokenizer, {"a dog cat"}, 16);
  at::Tensor embeddings = ClipTokenEmbeddings(victim.text_encoder, ids).detach().clone();
  embeddings.requires_grad_(true);
  const at::Tensor loss = objective.Score(embeddings, ids, point, noise).denoising;
  const at::Tensor gradient = Gradients(loss, {embeddings})[0];
  CHECK(gradient.norm().item<double>() > 0);
  const NoGrad no_grad;
  const double step = 1e-2 / gradient.norm().item<double>();
  const double moved =
      objective.Score(embeddings - step * gradient, ids, point, noise).denoising.item<double>();
  CHECK(moved < loss.item<double>());
}

TEST_CASE("unlearn_diff_atk: the seed first, then a try a timestep, until one works") {
  const Json params = {{"timesteps", 3}, {"iterations", 2}, {"prefix_len", 2}};
  TinyTarget never;
  never.red_enough = 2;
  never.queries_left = 4;
  const Trajectory all = Craft(params, &never);
  REQUIRE(never.asked.size() >= 2);
  CHECK(never.asked[0] == TinyPrompt().text);
  CHECK(never.ledger().gradient_steps == 6);
  CHECK(never.ledger().candidate_evaluations == 6);
  CHECK(never.queries_left >= 0);
  const Tokenizer& tokenizer = *never.victim.tokenizer;
  const std::vector<int64_t> own = tokenizer.Encode(TinyPrompt().text);
  for (size_t i = 1; i < never.asked.size(); ++i) {
    const Prompt& prompt = all[i].prompt;
    REQUIRE(prompt.token_ids.size() == own.size() + 2);
    CHECK(std::equal(own.begin(), own.end(), prompt.token_ids.begin() + 2));
    CHECK(prompt.text == tokenizer.Decode(prompt.token_ids));
    CHECK(prompt.round_trip == (tokenizer.Encode(prompt.text) == prompt.token_ids));
  }
  // The choice is what the oracle rated highest.
  double best = 0;
  for (const Candidate& candidate : all) {
    CHECK(candidate.success == false);
    best = std::max(best, candidate.score);
  }
  CHECK(all.back().score == best);
  CHECK(all.back().ledger.gradient_steps == 6);

  // What works ends the search: the same search, with an oracle content with its second try.
  TinyTarget content;
  content.red_enough = all[1].score;
  if (all[0].score < all[1].score) {
    const Trajectory found = Craft(params, &content);
    REQUIRE(found.size() == 2);
    CHECK(found[1].success == true);
    CHECK(found[1].prompt.text == all[1].prompt.text);
    CHECK(content.ledger().gradient_steps == 2);
  }
}

TEST_CASE("unlearn_diff_atk: what a lane computes depends on its own rows, bit for bit") {
  const IdleHooks idle;
  TinyTarget target(&idle);
  const Backbone& victim = target.victim;
  constexpr int64_t kLanes = 3, kDraws = 2;
  struct Result {
    at::Tensor loss, gradient;
  };
  // Lane `own` sees picture, text and noise of number `own`; the others those of their numbers.
  const auto score = [&](const std::vector<int64_t>& numbers) {
    const auto lanes = static_cast<int64_t>(numbers.size());
    std::vector<at::Tensor> pictures, noise;
    std::vector<std::string> texts;
    for (const int64_t number : numbers) {
      pictures.push_back(TinyImages(1, static_cast<uint64_t>(20 + number)));
      texts.push_back(number % 2 == 0 ? "a cat" : "a picture of a dog");
    }
    const DenoisingObjective objective(target, at::cat(pictures), true);
    for (const int64_t number : numbers) {
      Philox rng({static_cast<uint64_t>(number), "noise", 0, Stream::kAttack, 0});
      noise.push_back(objective.DrawNoise(kDraws, &rng));
    }
    const at::Tensor ids = TokenizeBatch(*victim.tokenizer, texts, 16);
    at::Tensor tokens = ClipTokenEmbeddings(victim.text_encoder, ids).detach().clone();
    tokens.requires_grad_(true);
    const at::Tensor loss =
        objective.Score(tokens, ids, objective.Points(3)[1], at::cat(noise)).Total(1);
    REQUIRE(loss.sizes() == std::vector<int64_t>{lanes});
    const std::vector<Ledger> costs = objective.TakeCosts();
    REQUIRE(costs.size() == numbers.size());
    // Two draws by the weights, and as many under guidance; two texts, and the empty one.
    for (const Ledger& cost : costs) CHECK(cost.unet_evaluations == kDraws + 2 * kDraws);
    for (const Ledger& cost : costs) CHECK(cost.text_evaluations == 2);
    return Result{loss.detach(), Gradients(loss.sum(), {tokens})[0]};
  };
  const Result all = score({1, 2, 3});
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    std::vector<int64_t> others = {7, 8, 9};
    others[static_cast<size_t>(lane)] = lane + 1;
    const Result among_others = score(others), alone = score({lane + 1});
    CHECK(among_others.loss[lane].equal(all.loss[lane]));
    CHECK(among_others.gradient[lane].equal(all.gradient[lane]));
    CHECK_FALSE(among_others.loss.equal(all.loss));
    // A pass of another size may round otherwise.
    CHECK(alone.loss.item<double>() == Approx(all.loss[lane].item<double>()).epsilon(1e-5));
    const double moved = (alone.gradient[0] - all.gradient[lane]).norm().item<double>();
    CHECK(moved <= 1e-4 * all.gradient[lane].norm().item<double>());
  }
}

TEST_CASE("unlearn_diff_atk: a prompt's trajectory depends on its own lane alone") {
  const std::unique_ptr<Attack> attack = Make({{"timesteps", 3},
                                               {"iterations", 2},
                                               {"prefix_len", 2},
                                               {"lanes", 3},
                                               {"lr", 0.1},
                                               {"lambda", 1}});
  CHECK(attack->traits().lanes == 3);
  const std::vector<std::string> texts = {"a cat", "a dog picture", "a picture of a cat", "dog"};
  const SafeHooks hooks(
      EncodeText(TinyBackbone(), TokenizeBatch(*TinyTokenizer(), {"a dog"}, 16)).detach(), 0.5);
  // The number of the prompt in each lane, or -1; `open`: lane 0 succeeds with its seed.
  const auto craft = [&](const std::vector<int>& numbers, bool open, const Hooks* defence) {
    std::vector<std::unique_ptr<TinyTarget>> targets;
    std::vector<Target*> lanes;
    std::vector<Prompt> seeds;
    for (const int number : numbers) {
      targets.push_back(std::make_unique<TinyTarget>(defence));
      targets.back()->red_enough = 2;
      lanes.push_back(number < 0 ? nullptr : targets.back().get());
      seeds.push_back(number < 0 ? Prompt()
                                 : TinyPrompt("t/" + std::to_string(number), texts.at(number)));
    }
    if (open) targets[0]->red_enough = -1;
    Lanes together(lanes);
    return attack->CraftTogether(together, TinyConcept(), seeds);
  };
  for (const Hooks* defence :
       {static_cast<const Hooks*>(nullptr), static_cast<const Hooks*>(&hooks)}) {
    INFO("with hooks: " << (defence != nullptr));
    const std::vector<Trajectory> all = craft({0, 1, 2}, false, defence);
    REQUIRE(all.size() == 3);
    CHECK(all[1].size() > 2);
    CHECK(all[1].back().ledger.gradient_steps == 6);
    const auto same = [&](const std::vector<Trajectory>& other) {
      REQUIRE(other[1].size() == all[1].size());
      for (size_t i = 0; i < all[1].size(); ++i) {
        const Candidate &a = other[1][i], &b = all[1][i];
        CHECK(a.prompt.id == b.prompt.id);
        CHECK(a.prompt.token_ids == b.prompt.token_ids);
        CHECK(a.score == b.score);
        CHECK(a.ledger.gradient_steps == b.ledger.gradient_steps);
        CHECK(a.ledger.unet_evaluations == b.ledger.unet_evaluations);
        CHECK(a.ledger.text_evaluations == b.ledger.text_evaluations);
      }
    };
    same(craft({3, 1, 0}, false, defence));
    const std::vector<Trajectory> alone = craft({-1, 1, -1}, false, defence);
    same(alone);
    CHECK((alone[0].empty() && alone[2].empty()));
    // One that ends at once pays for nothing more, and harms nobody.
    const std::vector<Trajectory> open = craft({0, 1, 2}, true, defence);
    same(open);
    REQUIRE(open[0].size() == 1);
    CHECK(open[0][0].ledger.gradient_steps == 0);
  }
}

TEST_CASE("unlearn_diff_atk: without hooks the adaptive form is the published attack bit for bit") {
  Trajectory runs[2];
  for (int i = 0; i < 2; ++i) {
    TinyTarget target;
    target.red_enough = 2;
    runs[i] = Craft({{"timesteps", 2}, {"iterations", 3}, {"lambda", i}}, &target);
  }
  REQUIRE(runs[0].size() == runs[1].size());
  for (size_t i = 0; i < runs[0].size(); ++i) {
    CHECK(runs[0][i].prompt.text == runs[1][i].prompt.text);
    CHECK(runs[0][i].score == runs[1][i].score);
    CHECK(runs[0][i].ledger.unet_evaluations == runs[1][i].ledger.unet_evaluations);
  }
}

TEST_CASE("unlearn_diff_atk: hooks that do nothing predict what the sampler's step predicts") {
  const NoGrad no_grad;
  const IdleHooks idle;
  TinyTarget target(&idle);
  target.sampling.steps = 10;
  target.sampling.guidance_scale = 1;
  const DenoisingObjective adaptive(target, TinyImages(1, 9), true),
      published(target, TinyImages(1, 9), false);
  CHECK(adaptive.adaptive());
  CHECK_FALSE(published.adaptive());
  Philox rng({5, "noise", 0, Stream::kAttack, 0});
  const at::Tensor noise = adaptive.DrawNoise(2, &rng);
  const at::Tensor ids = TokenizeBatch(*target.victim.tokenizer, {"a cat"}, 16);
  const at::Tensor embeddings = ClipTokenEmbeddings(target.victim.text_encoder, ids);
  for (const DenoisingPoint& point : adaptive.Points(5)) {
    CHECK(point.signal * point.signal + point.noise * point.noise == Approx(1));
    adaptive.TakeCosts();
    const DenoisingObjective::Terms terms = adaptive.Score(embeddings, ids, point, noise);
    // No guidance: one row a draw by the weights, one through the hooks.
    CHECK(adaptive.TakeCosts()[0].unet_evaluations == 2 + 2);
    const double own = terms.denoising.item<double>();
    CHECK(terms.through.item<double>() == Approx(own).epsilon(1e-6));
    CHECK(terms.alarm.item<double>() == 0);
    CHECK(terms.Total(0.5).item<double>() == Approx(1.5 * own).epsilon(1e-6));
    const DenoisingObjective::Terms bare = published.Score(embeddings, ids, point, noise);
    CHECK(bare.denoising.item<double>() == own);
    CHECK_FALSE(bare.through.defined());
    CHECK(bare.Total(0.5).item<double>() == own);
  }
}

TEST_CASE("unlearn_diff_atk: hooks that hide the prompt leave the published gradient; the hinge") {
  const Backbone base = TinyBackbone();
  const at::Tensor safe = EncodeText(base, TokenizeBatch(*base.tokenizer, {"a dog"}, 16)).detach();
  for (const auto& [margin, alarm] :
       {std::pair{-1.0, 0.0}, {-0.02, 0.0}, {0.0, 0.02}, {2.0, 2.02}}) {
    const SafeHooks hooks(safe, margin);
    TinyTarget target(&hooks);
    const DenoisingObjective objective(target, TinyImages(1, 9), true);
    Philox rng({6, "noise", 0, Stream::kAttack, 0});
    const at::Tensor noise = objective.DrawNoise(1, &rng);
    const at::Tensor ids = TokenizeBatch(*target.victim.tokenizer, {"a cat"}, 16);
    at::Tensor tokens = ClipTokenEmbeddings(target.victim.text_encoder, ids).detach().clone();
    tokens.requires_grad_(true);
    const DenoisingObjective::Terms terms =
        objective.Score(tokens, ids, objective.Points(3)[1], noise);
    CHECK(terms.alarm.item<double>() == Approx(alarm).margin(1e-7));
    CHECK_FALSE(terms.through.requires_grad());
    CHECK(Gradients(terms.Total(1), {tokens})[0].norm().item<double>() > 0);
  }
}

TEST_CASE("unlearn_diff_atk: what leaves no room for the prefix is excluded with a reason") {
  const std::unique_ptr<Attack> attack = Make({{"prefix_len", 5}});
  const Backbone base = TinyBackbone();
  const Prompt fits = TinyPrompt();
  CHECK(attack->Excludes(base, TinyConcept(), fits).empty());
  Prompt longer = fits;
  while (base.tokenizer->Encode(longer.text).size() <= 9) longer.text += " dog";
  CHECK(attack->Excludes(base, TinyConcept(), longer) == "excluded:too_long");
  TinyTarget target;
  CHECK_THROWS_WITH(Craft({{"prefix_len", 5}}, &target, longer), Catch::Contains("prefix_len"));
  CHECK(target.asked.empty());
}

TEST_CASE("hooks inside the text encoder are in the adaptive terms, and not in the published one") {
  // A constant added to a layer's output is that much more of its bias.
  constexpr const char* kLayer = "text_model.encoder.layers.0.mlp.fc2";
  class Shift : public LayerHooks {
   public:
    bool WantsLinear(const std::string& name) const override { return name == kLayer; }
    at::Tensor OnLinear(const std::string&, const at::Tensor&, at::Tensor y) override {
      return y + 0.5;
    }
  };
  class Inside : public Hooks {
   public:
    std::unique_ptr<LayerHooks> TextLayers() const override { return std::make_unique<Shift>(); }
    at::Tensor TextMargin(const TextBatch& text) const override { return text.pooled.sum(1); }
  };
  class Outside : public Hooks {
   public:
    at::Tensor TextMargin(const TextBatch& text) const override { return text.pooled.sum(1); }
  };
  const NoGrad no_grad;
  const Inside inside;
  const Outside outside;
  TinyTarget hooked(&inside), edited(&outside), bare;
  const std::string bias = std::string(kLayer) + ".bias";
  edited.victim.text_encoder.Set(bias, edited.victim.text_encoder.Get(bias) + 0.5);
  const at::Tensor picture = TinyImages(1, 9);
  const at::Tensor ids = TokenizeBatch(*TinyTokenizer(), {"a cat picture"}, 16);
  const auto score = [&](TinyTarget* target) {
    const DenoisingObjective objective(*target, picture, true);
    Philox rng({6, "noise", 0, Stream::kAttack, 0});
    const at::Tensor noise = objective.DrawNoise(2, &rng);
    DenoisingPoint point;
    point.timestep = 400;
    point.signal = point.noise = std::sqrt(0.5);
    return objective.Score(ClipTokenEmbeddings(target->victim.text_encoder, ids), ids, point,
                           noise);
  };
  const DenoisingObjective::Terms by_hooks = score(&hooked), by_weights = score(&edited);
  CHECK(by_hooks.through.item<double>() == Approx(by_weights.through.item<double>()).epsilon(1e-4));
  CHECK(by_hooks.alarm.item<double>() == Approx(by_weights.alarm.item<double>()).margin(1e-5));
  // The published term follows the weights alone, and they are the unmodified ones here.
  CHECK(by_hooks.denoising.item<double>() == score(&bare).denoising.item<double>());
}

}  // namespace excise
