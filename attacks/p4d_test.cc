// Sequences by hand, a step against the paper's loss, and what a lane owes to nobody else.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "attacks/denoising_attack.h"
#include "core/error.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"
#include "training/soft_prompt.h"
#include "training/usable_tokens.h"

namespace excise {
namespace {

std::unique_ptr<Attack> Make(const Json& params) {
  std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("p4d");
  DecodeParams(params, *attack, "test");
  return attack;
}

Trajectory Craft(const Json& params, TinyTarget* target, const Prompt& seed = TinyPrompt()) {
  return Make(params)->Craft(*target, TinyConcept(), seed);
}

// Draws something else whatever is asked for.
class SafeHooks : public Hooks {
 public:
  explicit SafeHooks(at::Tensor safe) : safe_(std::move(safe)) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<Run>(safe_);
  }

 private:
  struct Run : HookRun {
    explicit Run(at::Tensor safe) : safe(std::move(safe)) {}
    std::vector<at::Tensor> Rows(const GuidanceBatch& batch, int64_t) override {
      return {batch.empty_states, batch.prompt_states * 0.5 + safe * 0.5};
    }
    at::Tensor safe;
  };
  at::Tensor safe_;
};

}  // namespace

TEST_CASE("p4d: form n replaces the prompt, form k puts a token before every few of its own") {
  const auto tokenizer = TinyTokenizer();
  const std::vector<int64_t> own = tokenizer->Encode("a picture of a poodle");
  REQUIRE(own.size() == 5);
  const Json once = {{"iterations", 1}, {"prompt_len", 4}, {"every", 2}};
  for (const char* form : {"n", "k"}) {
    TinyTarget target;
    target.red_enough = 2;
    Json params = once;
    params["form"] = form;
    const Trajectory found = Craft(params, &target);
    CHECK(target.asked[0] == TinyPrompt().text);
    REQUIRE(target.asked.size() == 2);
    const Candidate& tried = found[1];
    const std::vector<int64_t>& ids = tried.prompt.token_ids;
    CHECK(tried.prompt.id.find("+p4d") != std::string::npos);
    CHECK(tried.prompt.text == tokenizer->Decode(ids));
    if (std::string(form) == "n") {
      CHECK(ids.size() == 4);
    } else {  // ? a picture ? of a ? poodle
      REQUIRE(ids.size() == 8);
      CHECK(std::vector<int64_t>{ids[1], ids[2], ids[4], ids[5], ids[7]} == own);
    }
  }
}

TEST_CASE("p4d: a step is AdamW's, on how far the victim is from the unmodified model") {
  TinyTarget target, again;
  for (TinyTarget* one : {&target, &again}) {
    one->red_enough = 2;
    one->victim.unet.Set("conv_in.weight", one->victim.unet.Get("conv_in.weight") * 1.3);
  }
  const double lr = 0.5, decay = 0.1;
  const Trajectory found = Craft({{"form", "n"},
                                  {"prompt_len", 3},
                                  {"iterations", 2},
                                  {"eval_every", 1},
                                  {"lr", lr},
                                  {"weight_decay", decay},
                                  {"tokens", "all"}},
                                 &target);
  // The first step by hand: its prompt is the start, the second prompt is nearest to the moved one.
  const Backbone& victim = again.victim;
  const Prompt seed = TinyPrompt();
  const TokenTable table(victim.text_encoder, UsableTokens(*victim.tokenizer, "all", {}));
  Philox tokens = again.Rng(seed, 0), noises = again.Rng(seed, 1), times = again.Rng(TinyConcept());
  const at::Tensor start = table.RandomIds(1, 3, &tokens);
  const at::Tensor framed = FrameIds(*victim.tokenizer, start, 16);
  at::Tensor embeddings =
      ClipTokenEmbeddings(victim.text_encoder, framed).detach().clone().requires_grad_(true);
  const auto timestep = static_cast<int64_t>(times.Below(1000));
  at::Tensor noise = at::empty({1, 4, 8, 8}, at::kFloat);
  noises.FillNormal(noise.data_ptr<float>(), 4 * 64);
  const at::Tensor picture = again.ReferenceImages(seed, 1);
  const at::Tensor x0 = VaeEncode(victim.vae_config, victim.vae, picture * 2 - 1).mean *
                        victim.vae_config.scaling_factor;
  const at::Tensor when = at::full({1}, timestep, at::kLong);
  const at::Tensor noised = AddNoise(victim.scheduler, x0, noise, when);
  const at::Tensor states =
      ClipTextForward(victim.clip.text, victim.text_encoder, embeddings, framed).last_hidden_state;
  const Backbone& original = again.Unmodified();
  const at::Tensor aim = EncodeText(original, TokenizeBatch(*original.tokenizer, {seed.text}, 16));
  const at::Tensor loss =
      (UNetForward(victim.unet_config, victim.unet, noised, when, states) -
       UNetForward(original.unet_config, original.unet, noised, when, aim).detach())
          .square()
          .mean();
  const at::Tensor g = Gradients(loss, {embeddings})[0].narrow(1, 1, 3);
  const at::Tensor before = embeddings.detach().narrow(1, 1, 3);
  const at::Tensor after = before * (1 - lr * decay) - lr * g / (g.abs() + 1e-8);
  const at::Tensor nearest = table.Nearest(after);
  REQUIRE(found.size() >= 3);
  CHECK(at::tensor(found[1].prompt.token_ids, at::kLong).equal(start[0]));
  CHECK(at::tensor(found[2].prompt.token_ids, at::kLong).equal(nearest[0]));
  CHECK_FALSE(nearest.equal(start));
  // A step has a row of the victim and one of the unmodified model; three pictures have two steps
  // of two rows each.
  CHECK(target.ledger().gradient_steps == 2);
  CHECK(target.ledger().unet_evaluations - again.ledger().unet_evaluations == 2 * 2 + 3 * 4);
}

TEST_CASE("p4d: the loss falls") {
  TinyTarget target;
  target.red_enough = 2;
  const Prompt seed = TinyPrompt();
  const Trajectory found = Craft({{"form", "n"},
                                  {"prompt_len", 4},
                                  {"iterations", 60},
                                  {"eval_every", 59},
                                  {"lr", 0.05},
                                  {"tokens", "all"},
                                  {"lambda", 0}},
                                 &target);
  const NoGrad no_grad;
  const DenoisingObjective objective(target, target.ReferenceImages(seed, 1), false);
  Philox rng({3, "noise", 0, Stream::kAttack, 0});
  const at::Tensor noise = objective.DrawNoise(8, &rng);
  const at::Tensor aim =
      EncodeText(target.Unmodified(), TokenizeBatch(*TinyTokenizer(), {seed.text}, 16));
  const auto distance = [&](const Candidate& candidate) {
    const at::Tensor ids = FrameIds(
        *TinyTokenizer(), at::tensor(candidate.prompt.token_ids, at::kLong).unsqueeze(0), 16);
    double sum = 0;
    for (const double timestep : {100.0, 300.0, 500.0, 700.0, 900.0}) {
      const DenoisingPoint point = objective.PointAt(timestep);
      const at::Tensor wanted = objective.Predicted(target.Unmodified(), aim, point, noise);
      sum += objective
                 .Score(ClipTokenEmbeddings(target.victim.text_encoder, ids), ids, point, noise,
                        wanted)
                 .Total(0)
                 .item<double>();
    }
    return sum;
  };
  REQUIRE(found.size() >= 3);
  CHECK(distance(found[2]) < distance(found[1]));
}

TEST_CASE("p4d: a prompt's trajectory depends on its own lane alone, with prompts of any length") {
  const std::vector<std::string> texts = {"a cat", "a dog picture", "a picture of a cat", "dog"};
  for (const char* form : {"n", "k"}) {
    const std::unique_ptr<Attack> attack = Make({{"form", form},
                                                 {"prompt_len", 3},
                                                 {"every", 2},
                                                 {"iterations", 4},
                                                 {"eval_every", 1},
                                                 {"lr", 0.1},
                                                 {"lanes", 3}});
    CHECK(attack->traits().queries == 5);
    const auto craft = [&](const std::vector<int>& numbers) {
      std::vector<std::unique_ptr<TinyTarget>> targets;
      std::vector<Target*> lanes;
      std::vector<Prompt> seeds;
      for (const int number : numbers) {
        targets.push_back(std::make_unique<TinyTarget>());
        targets.back()->red_enough = 2;
        lanes.push_back(number < 0 ? nullptr : targets.back().get());
        seeds.push_back(number < 0 ? Prompt()
                                   : TinyPrompt("t/" + std::to_string(number), texts.at(number)));
      }
      Lanes together(lanes);
      return attack->CraftTogether(together, TinyConcept(), seeds)[1];
    };
    const Trajectory all = craft({0, 1, 2});
    REQUIRE(all.size() >= 2);
    for (const std::vector<int>& other : {std::vector<int>{3, 1, 0}, std::vector<int>{-1, 1, -1}}) {
      const Trajectory found = craft(other);
      REQUIRE(found.size() == all.size());
      for (size_t i = 0; i < all.size(); ++i) {
        CHECK(found[i].prompt.token_ids == all[i].prompt.token_ids);
        CHECK(found[i].score == all[i].score);
        CHECK(found[i].ledger.unet_evaluations == all[i].ledger.unet_evaluations);
      }
    }
  }
}

TEST_CASE("p4d: at lambda = 0 it is blind to hooks; otherwise they are in its loss") {
  const at::Tensor safe =
      EncodeText(TinyBackbone(), TokenizeBatch(*TinyTokenizer(), {"a dog"}, 16)).detach();
  const SafeHooks hooks(safe);
  const Json blind = {
      {"iterations", 4}, {"eval_every", 1}, {"lr", 0.5}, {"tokens", "all"}, {"lambda", 0}};
  Json seeing = blind;
  seeing["lambda"] = 5;
  TinyTarget bare, defended, adapted;
  for (TinyTarget* target : {&bare, &defended, &adapted}) target->red_enough = 2;
  defended.Defend(&hooks);
  adapted.Defend(&hooks);
  Craft(blind, &bare);
  Craft(blind, &defended);
  Craft(seeing, &adapted);
  CHECK(defended.asked == bare.asked);
  CHECK(adapted.ledger().unet_evaluations > defended.ledger().unet_evaluations);
  CHECK(adapted.asked != bare.asked);
}

TEST_CASE("p4d: a prompt that does not fit with its tokens is left out, or refused") {
  const Backbone base = TinyBackbone();
  const std::string text = "a picture of a poodle a picture of a";  // nine tokens of fourteen
  CHECK(Make({{"form", "k"}, {"every", 3}})
            ->Excludes(base, TinyConcept(), TinyPrompt("x", text))
            .empty());
  CHECK(Make({{"form", "k"}, {"every", 1}})->Excludes(base, TinyConcept(), TinyPrompt("x", text)) ==
        "excluded:too_long");
  CHECK(Make({{"form", "n"}})->Excludes(base, TinyConcept(), TinyPrompt("x", text)).empty());
  TinyTarget target;
  target.red_enough = 2;
  CHECK_THROWS_WITH(Craft({{"prompt_len", 15}, {"iterations", 1}}, &target),
                    Catch::Contains("does not fit"));
}

}  // namespace excise
