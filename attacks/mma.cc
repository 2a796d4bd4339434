// What: greedy token swaps until the text means what the prompt means, past a list of its names
// Paper: Yang, Gao, Wang, Xu, Zhang, Xu, "MMA-Diffusion: MultiModal Attack on Diffusion Models",
//   CVPR 2024, arXiv 2311.17516; the search is GCG of Zou, Wang, Carlini, Nasr, Kolter, Fredrikson,
//   arXiv 2307.15043
// Equation: s' = argmax over B swaps s[i <- v] of cos(T(s), T(p)), i evenly over the places, v
//   uniform among the k tokens of largest grad_{one-hot i} cos; s' is taken, better or not; kept:
//   the best of all
// Reference: cure-lab/MMA-Diffusion @ d5701a5, src/text_mma.py
// Deviations: cosines are of projected embeddings, where the reference's are of the pooled state
//   before the projection; the start is of random tokens that are a word each, where the reference
//   has letters; swaps whose text is not read as so many tokens are passed over, where GCG takes
//   another in their place; `gradients: released` gives a place the gradient of the token before
//   it, as the reference does, whose slice begins at the start token
// Needs: a surrogate CLIP with gradients; never the victim
// Caveats: defaults are reduced for the emoji backbone; preset "paper": 20 tokens, 1,000 steps of
//   512 swaps, k = 256; the reference's ten runs a target are not repeated
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include "attacks/hard_prompt.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

constexpr const char* kName = "mma";

class Mma : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("prompt_len", &prompt_len_, "tokens of the prompt", {.min = 1, .max = 75});
    v.Integer("iterations", &iterations_, "gradient steps", {.min = 1});
    v.Integer("swaps", &swaps_, "swaps tried after each (B)", {.min = 1, .max = 4096});
    v.Integer("top", &top_, "tokens that a place may get (k)", {.min = 1});
    v.Choice("gradients", &gradients_,
             "whose gradient ranks a place's tokens: its own, or released", {"own", "released"});
    v.Choice(
        "tokens", &tokens_,
        "tokens that may be used: text on their own, such as pass a block-list of the known names, "
        "or all",
        {"printable", "unlisted", "all"});
  }
  int version() const override { return 1; }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"prompt_len", 20},
              {"iterations", 1000},
              {"swaps", 512},
              {"top", 256},
              {"gradients", "released"},
              {"tokens", "unlisted"}}},
            {"smoke", {{"prompt_len", 4}, {"iterations", 3}, {"swaps", 8}, {"top", 8}}}};
  }
  // The budget (iterations, swaps) is the experiment's, not the attack's.
  SearchSpace search_space() const override {
    return {{"prompt_len", {4, 8, 12, 20}}, {"top", {16, 64, 256}}};
  }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.surrogate = true;
    traits.most.gradient_steps = iterations_;
    traits.most.candidate_evaluations = iterations_ * swaps_;
    return traits;
  }
  Work work(Acts) const override {
    const auto steps = static_cast<double>(iterations_);
    // The encoder reads the sequences alone, without padding.
    const double part = static_cast<double>(prompt_len_ + 2) / 77;
    return {{Pass::kTextGradient, steps, part},
            {Pass::kText, steps, part * static_cast<double>(swaps_)}};
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const override {
    const ClipModel& clip = target.Surrogate();
    const HardPromptScorer scorer(clip, TextTarget(target, prompt),
                                  UsableTokens(*clip.tokenizer, tokens_, subject.known),
                                  prompt_len_);
    Philox rng = target.Rng(prompt);
    at::Tensor now = Start(*clip.tokenizer, scorer.tokens(), &rng);
    Trajectory found;
    for (int64_t step = 0; step < iterations_; ++step) {
      const at::Tensor ranked = Ranked(scorer, now);
      ++target.ledger().gradient_steps;
      const at::Tensor swapped = Swapped(*clip.tokenizer, now, ranked, &rng);
      target.ledger().candidate_evaluations += swaps_;
      target.ledger().text_evaluations += swapped.size(0) + 1;
      const NoGrad no_grad;
      const at::Tensor scores = scorer.Similarities(scorer.tokens().Embed(swapped)).mean(1);
      KeepBest(kName, *clip.tokenizer, prompt, swapped, scores, target.ledger(), &found);
      const int64_t best = scores.argmax().item<int64_t>();
      now = swapped.narrow(0, best, 1);
    }
    return found;
  }

 private:
  // Tokens (1, length) that are read back from their text, where there are any.
  at::Tensor Start(const Tokenizer& tokenizer, const TokenTable& table, Philox* rng) const {
    constexpr int kDraws = 1000;  // for each place
    at::Tensor start = table.RandomIds(1, prompt_len_, rng);
    for (int64_t place = 0; place < prompt_len_; ++place) {
      for (int draw = 0; draw < kDraws; ++draw) {
        const std::vector<int64_t> id = {start[0][place].item<int64_t>()};
        if (tokenizer.Encode(tokenizer.Decode(id)) == id) break;
        start[0][place] = table.RandomIds(1, 1, rng)[0][0];
      }
    }
    return start;
  }
  // The tokens of largest gradient at each place, (length, top) ids.
  at::Tensor Ranked(const HardPromptScorer& scorer, const at::Tensor& now) const {
    const at::Tensor embeddings = scorer.tokens().Embed(now).detach().requires_grad_(true);
    at::Tensor gradient =
        Gradients(scorer.Similarities(embeddings).sum(), {embeddings})[0][0].detach();
    if (gradients_ == "released") {
      // The first place's, of the start token, ranks nothing here.
      gradient = at::cat(
          {at::zeros_like(gradient.narrow(0, 0, 1)), gradient.narrow(0, 0, gradient.size(0) - 1)});
    }
    return scorer.tokens().Furthest(gradient, top_);
  }
  // What comes of swapping one token of `now` (1, length), (n, length), as its text is read: the
  // swaps that are read as so many tokens; where there is none, `now`.
  at::Tensor Swapped(const Tokenizer& tokenizer, const at::Tensor& now, const at::Tensor& ranked,
                     Philox* rng) const {
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i < swaps_; ++i) {
      const int64_t place = i * prompt_len_ / swaps_;
      const auto choice = static_cast<int64_t>(rng->Below(static_cast<uint64_t>(ranked.size(1))));
      at::Tensor row = now.clone();
      row[0][place] = ranked[place][choice];
      const int64_t* begin = row.data_ptr<int64_t>();
      const std::vector<int64_t> ids(begin, begin + prompt_len_);
      const std::vector<int64_t> read = tokenizer.Encode(tokenizer.Decode(ids));
      if (read.size() == ids.size()) rows.push_back(at::tensor(read, at::kLong).unsqueeze(0));
    }
    if (rows.empty()) rows.push_back(now);
    return at::cat(rows);
  }

  int64_t prompt_len_ = 8, iterations_ = 40, swaps_ = 64, top_ = 64;
  std::string gradients_ = "own", tokens_ = "unlisted";
};

const Registration<Attack, Mma> registration;

}  // namespace
}  // namespace excise
