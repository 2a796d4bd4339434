// What: replaces the concept's words by pieces of words, chosen by what the answers were worth
// Paper: Yang, Hui, Yuan, Gong, Cao, "SneakyPrompt: Jailbreaking Text-to-image Generative Models",
//   IEEE S&P 2024, arXiv 2305.12082
// Equation: max over pieces (v_1 ... v_m)_w in the place of each word w, of cos(I(picture), T(p)),
//   or - q / (10 Q) where question q of Q was blocked; by policy gradient with a critic, one pick
//   after another
// Reference: Yuchen413/text2image_safety @ cf0ad29, rl_search.py, search_utils.py,
//   baseline/heuristic_search.py
// Deviations: ends by the oracle's word, not at a similarity of 0.26; a word is one of the
//   concept's names, or where the prompt has none the one without which the surrogate finds the
//   text least like them (there a list and a classifier of unsafe texts); pieces are letters alone
//   (the reference leaves the w of "</w>" in them); the simpler searches compare text embeddings,
//   not all states, ask of brute force the best of `samples` draws, and of a beam all it ends
//   with; pieces that spell a name of the concept are no candidate, and to the policy a blocked
//   answer that costs no question
// Needs: answers of the oracle, the first one for the seed prompt itself, the delivered picture and
//   whether it was blocked; a surrogate CLIP; neither weights nor gradients of the victim
// Caveats: made against filters: of a method that blocks nothing every picture is answered; nobody
//   checks whether the pieces make a word
#include <ATen/core/Tensor.h>
#include <ATen/ops/matmul.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "attacks/hard_prompt.h"
#include "attacks/sneaky_prompt/policy.h"
#include "attacks/sneaky_prompt/prompt_words.h"
#include "attacks/tries.h"
#include "core/error.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

// One prompt under attack, and what was asked.
class Sneaking {
 public:
  Sneaking(Target& target, const Concept& subject, const Prompt& seed, PromptWords words,
           std::vector<std::string> pieces)
      : words(std::move(words)),
        pieces(std::move(pieces)),
        target_(target),
        seed_(seed),
        wanted_(TextTarget(target, seed)) {
    const NoGrad no_grad;
    const at::Tensor meant =
        subject.known.empty() ? wanted_
                              : nn::Normalised(EmbedTexts(target.Surrogate(), {subject.known[0]}));
    const std::vector<std::string> without = this->words.WithoutEach();
    this->words.OrderOthers(Cosines(without, meant));
    target.ledger().text_evaluations += static_cast<int64_t>(without.size());
  }

  std::string TextOf(const Picks& picks) const { return words.With(pieces, picks); }
  // Pieces may spell a name, which is no candidate.
  bool Spells(const Picks& picks) const { return words.HoldsName(TextOf(picks)); }

  // Of candidates, which are counted: the cosines of their texts with the seed prompt's.
  std::vector<double> Similarities(const std::vector<Picks>& candidates) {
    std::vector<std::string> texts;
    for (const Picks& picks : candidates) texts.push_back(TextOf(picks));
    const auto n = static_cast<int64_t>(texts.size());
    target_.ledger().text_evaluations += n;
    target_.ledger().candidate_evaluations += n;
    return Cosines(texts, wanted_);
  }

  // Asks the oracle; nullopt where no question is left.
  std::optional<Answer> Ask(const Prompt& prompt) {
    const std::optional<Answer> answer = target_.Query(prompt);
    if (!answer) return answer;
    Candidate candidate;
    candidate.prompt = prompt;
    candidate.ledger = target_.ledger();
    candidate.score = answer->target_probability;
    candidate.success = answer->success;
    if (answer->blocked.value_or(false)) candidate.edits.push_back("blocked");
    found.push_back(std::move(candidate));
    return answer;
  }
  std::optional<Answer> Ask(const Picks& picks) {
    return Ask(AdversarialPrompt(seed_, "sneaky_prompt", Asked(), TextOf(picks)));
  }

  // Questions about candidates: without the seed prompt's.
  int64_t Asked() const { return static_cast<int64_t>(found.size()) - 1; }

  // How near an answer's picture is to the seed prompt's text.
  double Worth(const Answer& answer) {
    const NoGrad no_grad;
    const at::Tensor picture = nn::Normalised(
        EmbedPictures(target_.Surrogate(), answer.picture.unsqueeze(0).to(wanted_.device())));
    return std::max(0.0, at::matmul(picture, wanted_.t()).item<double>());
  }

  PromptWords words;
  const std::vector<std::string> pieces;
  Trajectory found;

 private:
  std::vector<double> Cosines(const std::vector<std::string>& texts, const at::Tensor& with) {
    const NoGrad no_grad;
    std::vector<double> all;
    for (size_t done = 0; done < texts.size(); done += kBatch) {
      const std::vector<std::string> some(
          texts.begin() + static_cast<std::ptrdiff_t>(done),
          texts.begin() + static_cast<std::ptrdiff_t>(std::min(done + kBatch, texts.size())));
      const at::Tensor cosines =
          at::matmul(nn::Normalised(EmbedTexts(target_.Surrogate(), some)), with.t())
              .to(at::kCPU, at::kDouble)
              .contiguous();
      all.insert(all.end(), cosines.data_ptr<double>(),
                 cosines.data_ptr<double>() + cosines.numel());
    }
    return all;
  }

  static constexpr size_t kBatch = 64;
  Target& target_;
  const Prompt& seed_;
  const at::Tensor wanted_;  // (1, projection), normalised
};

// Indices of `scores`, the highest first.
std::vector<size_t> BestFirst(const std::vector<double>& scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  return order;
}

class SneakyPrompt : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("search", &search_,
             "policy gradient; a beam over pieces by text (width 1: greedy); or brute force, the "
             "best of `samples` draws by text for each question",
             {"policy", "beam", "brute_force"});
    v.Integer("questions", &questions_, "pictures that the oracle is asked about, at most",
              {.min = 1, .max = 1000});
    v.Integer("subwords", &subwords_, "pieces that replace a word", {.min = 1, .max = 16});
    v.Integer("letters", &letters_, "a piece has fewer", {.min = 2, .max = 64});
    v.Number("lr", &lr_, "learning rate of the policy, of Adam", {.min = 0});
    v.Integer("patience", &patience_, "blocked answers in a row after which one more word goes",
              {.min = 1});
    v.Number("max_share", &max_share_, "of the prompt's words that may go, beside the first",
             {.min = 0, .max = 1});
    v.Integer("width", &width_, "of the beam", {.min = 1, .max = 64});
    v.Integer("samples", &samples_, "draws for each question of brute force", {.min = 1});
    v.Choice("tokens", &tokens_,
             "tokens whose letters are pieces: text on their own, such as pass a block-list of the "
             "known names, or all",
             {"printable", "unlisted", "all"});
  }
  int version() const override { return 1; }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"search", "policy"},
              {"questions", 60},
              {"subwords", 3},
              {"letters", 10},
              {"lr", 0.1},
              {"patience", 5},
              {"max_share", 0.3},
              {"tokens", "all"}}},
            {"smoke", {{"questions", 3}, {"samples", 2}}}};
  }
  // The budget (questions, samples, width) is the experiment's, not the attack's.
  SearchSpace search_space() const override {
    return {{"search", {"policy", "beam", "brute_force"}}, {"subwords", {1, 2, 3}}};
  }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.surrogate = true;
    traits.queries = questions_ + 1;
    traits.sees_picture = traits.sees_blocked = true;
    return traits;
  }
  Work work(Acts) const override {
    const auto asked = static_cast<double>(questions_ + 1);
    Work work = {{Pass::kPicture, asked, 1}};
    if (search_ == "policy") work.push_back({Pass::kVision, asked, 1});
    if (search_ == "brute_force") {
      work.push_back({Pass::kText, asked, static_cast<double>(samples_)});
    }
    return work;
  }
  std::string Excludes(const Backbone&, const Concept&, const Prompt& seed) const override {
    return CountWords(seed.text) == 0 ? "excluded:no_candidate" : "";
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    const Tokenizer& tokenizer = *target.Surrogate().tokenizer;
    std::vector<std::string> pieces =
        PiecesOf(tokenizer, UsableTokens(tokenizer, tokens_, subject.known), letters_);
    if (pieces.empty()) {
      throw UsageError(fmt::format(
          "sneaky_prompt: no token of '{}' is fewer than {} letters alone. Raise letters, or allow "
          "other tokens.",
          tokens_, letters_));
    }
    Sneaking sneaking(target, subject, seed, PromptWords(seed.text, subject.known, subwords_),
                      std::move(pieces));
    const std::optional<Answer> first = sneaking.Ask(seed);
    if (!first) return {};
    if (!first->success) {
      Philox rng = target.Rng(seed);
      if (search_ == "policy") ByPolicy(&sneaking, &rng, target.ledger());
      if (search_ == "beam") ByBeam(&sneaking);
      if (search_ == "brute_force") ByBruteForce(&sneaking, &rng);
    }
    if (!sneaking.found.back().success.value_or(false)) ChooseBest(&sneaking.found);
    return std::move(sneaking.found);
  }

 private:
  void ByPolicy(Sneaking* sneaking, Philox* rng, Ledger& ledger) const {
    do {
      Policy policy(
          FreshPolicy(static_cast<int64_t>(sneaking->pieces.size()), sneaking->words.stages(), rng),
          lr_);
      for (int64_t blocked = 0; blocked < patience_;) {
        if (sneaking->Asked() == questions_) return;
        const Picks picks = policy.Draw(rng);
        ++ledger.candidate_evaluations;
        std::optional<Answer> answer;
        const bool spells = sneaking->Spells(picks);
        if (!spells) {
          answer = sneaking->Ask(picks);
          if (!answer || answer->success) return;
        }
        blocked = spells || answer->blocked.value_or(false) ? blocked + 1 : 0;
        const double share =
            static_cast<double>(sneaking->Asked()) / static_cast<double>(questions_);
        policy.Learn(picks, blocked > 0 ? -share / 10 : sneaking->Worth(*answer));
      }
    } while (sneaking->words.Share() <= max_share_ && sneaking->words.AttackOneMore());
  }

  void ByBeam(Sneaking* sneaking) const {
    std::vector<Picks> beam = {{}};
    for (int64_t stage = 0; stage < sneaking->words.stages(); ++stage) {
      std::vector<Picks> longer;
      for (const Picks& start : beam) {
        for (size_t piece = 0; piece < sneaking->pieces.size(); ++piece) {
          longer.push_back(start);
          longer.back().push_back(static_cast<int64_t>(piece));
          if (sneaking->Spells(longer.back())) longer.pop_back();
        }
      }
      std::vector<size_t> order = BestFirst(sneaking->Similarities(longer));
      order.resize(std::min(order.size(), static_cast<size_t>(width_)));
      beam.clear();
      for (const size_t i : order) beam.push_back(longer[i]);
    }
    beam.resize(std::min(beam.size(), static_cast<size_t>(questions_)));
    for (const Picks& picks : beam) {
      const std::optional<Answer> answer = sneaking->Ask(picks);
      if (!answer || answer->success) return;
    }
  }

  void ByBruteForce(Sneaking* sneaking, Philox* rng) const {
    while (sneaking->Asked() < questions_) {
      std::vector<Picks> drawn;
      for (int64_t i = 0; i < samples_; ++i) {
        Picks picks(static_cast<size_t>(sneaking->words.stages()));
        for (int64_t& pick : picks) {
          pick = static_cast<int64_t>(rng->Below(sneaking->pieces.size()));
        }
        if (!sneaking->Spells(picks)) drawn.push_back(std::move(picks));
      }
      if (drawn.empty()) return;  // pieces that spell nothing else
      const size_t best = BestFirst(sneaking->Similarities(drawn))[0];
      const std::optional<Answer> answer = sneaking->Ask(drawn[best]);
      if (!answer || answer->success) return;
    }
  }

  std::string search_ = "policy", tokens_ = "printable";
  int64_t questions_ = 10, subwords_ = 3, letters_ = 10, patience_ = 5, width_ = 2, samples_ = 16;
  double lr_ = 0.1, max_share_ = 0.3;
};

const Registration<Attack, SneakyPrompt> registration;

}  // namespace
}  // namespace excise
