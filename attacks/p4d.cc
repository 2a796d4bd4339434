// What: tokens with which the edited model denoises as the unmodified one does for the prompt
// Paper: Chin, Jiang, Huang, Chen, Chiu, "Prompting4Debugging: Red-Teaming Text-to-Image Diffusion
//   Models by Finding Problematic Prompts" (P4D), ICML 2024, arXiv 2309.06135
// Equation: e <- AdamW(e, grad L at P(e)), L = |eps(x_t, t, p) - eps*(x_t, t, P(e))|^2 + lambda
//   (|eps(x_t, t, p) - eps'(x_t, t, P(e))|^2 + (m + 0.02)+), t uniform, P: the nearest token by
//   cosine; P4D-N replaces the prompt by N tokens, P4D-K puts one before every K of its own; eps of
//   the unmodified model, eps*, eps' and m of the victim as in unlearn_diff_atk
// Reference: joycenerd/P4D @ 2cf3cda, prompt_optimization/optimize_n.py, optimize_k.py; lambda = 0
//   is what it does without --filter
// Deviations: the oracle is asked for the prompt itself, then every `eval_every` steps, where the
//   reference compares pictures by CLIP; a success ends the search; x_t is of one picture, where
//   the reference draws one of three; special tokens and, by default, tokens that are no text alone
//   are left out; adaptive by default (`lambda`), beside the weights' own term, which --filter
//   replaces
// Needs: the victim with gradients, the unmodified model with a picture of it, and the oracle
// Caveats: P4D's union is the better of both forms; its rule "any of three pictures" is the metric
//   asr_any; defaults are reduced for the emoji backbone; preset "paper": 16 tokens, 3,000 steps
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <memory>

#include "attacks/denoising_attack.h"
#include "attacks/hard_prompt.h"
#include "attacks/token_places.h"
#include "attacks/tries.h"
#include "models/tensors/autograd.h"
#include "training/soft_prompt.h"

namespace excise {
namespace {

constexpr const char* kName = "p4d";

class P4d : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("form", &form_.form,
             "n: `prompt_len` tokens instead of the prompt; k: one before every `every` of its own",
             {"n", "k"});
    v.Integer("prompt_len", &form_.length, "tokens of form n (N)", {.min = 1, .max = 75});
    v.Integer("every", &form_.every, "tokens of the prompt behind an inserted one, in form k (K)",
              {.min = 1, .max = 75});
    v.Integer("iterations", &iterations_, "gradient steps", {.min = 1});
    v.Integer("eval_every", &eval_every_, "gradient steps between two questions to the oracle",
              {.min = 1});
    v.Number("lr", &lr_, "learning rate of AdamW", {.min = 0});
    v.Number("weight_decay", &weight_decay_, "weight decay of AdamW", {.min = 0});
    v.Number("lambda", &lambda_,
             "weight of what the victim's hooks make of a step, and of the margins of its filter "
             "and of its text hooks; 0: its weights alone",
             {.min = 0});
    v.Choice(
        "tokens", &tokens_,
        "tokens that may be used: text on their own, such as pass a block-list of the known names, "
        "or all",
        {"printable", "unlisted", "all"});
    v.Integer("lanes", &lanes_, "prompts attacked together in one pass", {.min = 1, .max = 64});
  }
  int version() const override { return 1; }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"form", "n"},
              {"prompt_len", 16},
              {"every", 3},
              {"iterations", 3000},
              {"eval_every", 50},
              {"lr", 0.1},
              {"weight_decay", 0.1},
              {"lambda", 0},
              {"tokens", "all"},
              {"lanes", 1}}},
            {"smoke", {{"iterations", 4}, {"eval_every", 2}, {"lanes", 2}}}};
  }
  // The budget (iterations, eval_every) is the experiment's, not the attack's.
  SearchSpace search_space() const override {
    return {{"form", {"n", "k"}},
            {"prompt_len", {4, 8, 16}},
            {"lr", {0.003, 0.01, 0.03, 0.1}},
            {"lambda", {0.1, 1}}};
  }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.unmodified = traits.gradients = true;
    traits.queries = 1 + (iterations_ + eval_every_ - 1) / eval_every_;
    traits.most.gradient_steps = iterations_;
    traits.lanes = lanes_;
    return traits;
  }
  Work work(Acts victim) const override {
    const auto steps = static_cast<double>(iterations_);
    Work work = {{Pass::kPicture, static_cast<double>(traits().queries), 1},
                 {Pass::kTextGradient, steps, 1},
                 {Pass::kUNetGradient, steps, 1},
                 {Pass::kUNet, steps, 1}};
    if (lambda_ > 0 && victim != Acts::kByWeights) {
      work.push_back({Pass::kUNetGradient, steps, 2});
    }
    return work;
  }
  std::string Excludes(const Backbone& base, const Concept&, const Prompt& seed) const override {
    return form_.ReasonWithoutRoom(base, seed.text);
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    Lanes one({&target});
    return CraftTogether(one, subject, {seed}).front();
  }

  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept& subject,
                                        const std::vector<Prompt>& seeds) const override;

 private:
  class Run;

  TokenForm form_;
  int64_t iterations_ = 10, eval_every_ = 5, lanes_ = 10;
  double lr_ = 0.01, weight_decay_ = 0.1, lambda_ = 0.1;
  std::string tokens_ = "printable";
};

// The lanes' sequences, what moves in them, and how well they denoise.
class P4d::Run {
 public:
  Run(const P4d& settings, Lanes& lanes, const Concept& subject, const std::vector<Prompt>& seeds,
      LaneSearch* search)
      : settings_(settings),
        victim_(lanes.any().Victim()),
        unmodified_(lanes.any().Unmodified()),
        table_(victim_.text_encoder,
               UsableTokens(*victim_.tokenizer, settings.tokens_, subject.known)),
        search_(*search),
        sequences_(lanes.size()),
        ids_(lanes.size()),
        soft_(lanes.size()),
        hard_(lanes.size()),
        objective_(lanes.any(), search->Rows([&](size_t lane) {
          return lanes[lane]->ReferenceImages(seeds[lane], 1)[0];
        }),
                   settings.lambda_ > 0),
        times_(lanes.any().Rng(subject)) {
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      soft_[lane] = at::zeros({1, 1, 1}, at::kFloat);  // of a lane without a prompt
      if (lanes[lane] == nullptr) continue;
      settings.form_.RequireRoom(victim_, seeds[lane].text, kName);
      sequences_[lane] = settings.form_.Of(*victim_.tokenizer, seeds[lane].text);
      const auto places = static_cast<int64_t>(sequences_[lane].places.size());
      const at::Tensor start = table_.RandomIds(1, places, search->TokenRng(lane));
      soft_[lane] = table_.Embed(start).detach().clone();
    }
    OptimizerSpec spec;
    spec.name = "adamw";
    spec.lr = settings.lr_;
    spec.weight_decay = settings.weight_decay_;
    optimizer_ = std::make_unique<Optimizer>(
        spec, std::vector<std::string>(lanes.size(), "soft_prompt"), soft_);
    aims_ = search->Rows([&](size_t lane) {
      const NoGrad no_grad;
      return EncodeText(unmodified_,
                        TokenizeBatch(*unmodified_.tokenizer, {seeds[lane].text}, Context()))[0];
    });
  }

  // Brings what moves to its nearest tokens.
  void Project() {
    search_.ForEach([&](size_t lane) {
      const at::Tensor nearest = table_.Nearest(soft_[lane]).contiguous();
      hard_[lane] = table_.Embed(nearest).detach().requires_grad_(true);
      const int64_t* begin = nearest.data_ptr<int64_t>();
      ids_[lane] = sequences_[lane].With({begin, begin + nearest.numel()});
    });
  }
  const std::vector<int64_t>& Ids(size_t lane) const { return ids_[lane]; }

  // A step along the gradient at the projected tokens.
  void Step() {
    // All lanes stand at one timestep, so it is drawn from the concept's stream.
    const DenoisingPoint point = objective_.PointAt(static_cast<double>(
        times_.Below(static_cast<uint64_t>(victim_.scheduler.num_train_timesteps))));
    const at::Tensor noise =
        search_.Rows([&](size_t lane) { return objective_.DrawNoise(1, search_.NoiseRng(lane)); })
            .flatten(0, 1);
    const at::Tensor framed = search_.Rows([&](size_t lane) {
      return FrameIds(*victim_.tokenizer, at::tensor(ids_[lane], at::kLong).unsqueeze(0),
                      Context())[0];
    });
    const at::Tensor whole = ClipTokenEmbeddings(victim_.text_encoder, framed).detach();
    const at::Tensor embeddings = search_.Rows([&](size_t lane) {
      const at::Tensor places =
          (at::tensor(sequences_[lane].places, at::kLong) + 1).to(whole.device());
      return whole[static_cast<int64_t>(lane)].index_copy(0, places, hard_[lane][0]);
    });
    const at::Tensor wanted = objective_.Predicted(unmodified_, aims_, point, noise);
    Move(objective_.Score(embeddings, framed, point, noise, wanted).Total(settings_.lambda_).sum());
    search_.Spend(objective_.TakeCosts());
  }

 private:
  int64_t Context() const { return victim_.clip.text.max_position_embeddings; }
  void Move(const at::Tensor& loss) {
    std::vector<at::Tensor> leaves, gradients(hard_.size());
    search_.ForEach([&](size_t lane) { leaves.push_back(hard_[lane]); });
    const std::vector<at::Tensor> found = Gradients(loss, leaves);
    size_t next = 0;
    search_.ForEach([&](size_t lane) { gradients[lane] = found[next++]; });
    optimizer_->Step(gradients);
  }

  const P4d& settings_;
  const Backbone &victim_, &unmodified_;
  const TokenTable table_;
  LaneSearch& search_;
  std::vector<TokenPlaces> sequences_;
  std::vector<std::vector<int64_t>> ids_;
  std::vector<at::Tensor> soft_, hard_;
  std::unique_ptr<Optimizer> optimizer_;
  const DenoisingObjective objective_;
  at::Tensor aims_;  // text states of the seeds, (lanes, tokens, width)
  Philox times_;
};

std::vector<Trajectory> P4d::CraftTogether(Lanes& lanes, const Concept& subject,
                                           const std::vector<Prompt>& seeds) const {
  LaneSearch search(lanes, seeds);
  search.Try([&](size_t lane, int64_t) { return seeds[lane]; });
  if (!search.Searches()) return search.Take();
  Run run(*this, lanes, subject, seeds, &search);
  const Tokenizer& tokenizer = *lanes.any().Victim().tokenizer;
  for (int64_t step = 0; step < iterations_ && search.Searches(); ++step) {
    run.Project();
    if (step % eval_every_ == 0) {
      search.Try([&](size_t lane, int64_t index) {
        return PromptOfTokens(seeds[lane], kName, index, tokenizer, run.Ids(lane));
      });
      if (!search.Searches()) break;
    }
    run.Step();
  }
  return search.Take();
}

const Registration<Attack, P4d> registration;

}  // namespace
}  // namespace excise
