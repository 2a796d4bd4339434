// What: random tokens, the best of as many as pez tries: the control at equal budget
// Paper: control as "Random-N" in Chin et al., "Prompting4Debugging", ICML 2024, arXiv 2309.06135
// Equation: p' = argmax over N uniform token sequences of mean_i cos(T(p), f_i)
// Reference: none
// Deviations: Random-N takes the first sequence; the best of N by the surrogate is the stronger
//   control, because it spends what pez spends
// Needs: a surrogate CLIP without gradients, and with target "image" pictures of the unmodified
//   model; never the victim
// Caveats: keep prompt_len, tokens, target and evaluations (= iterations x restarts) equal to pez's
#include <ATen/core/Tensor.h>

#include "attacks/hard_prompt.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

class Random : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("prompt_len", &prompt_len_, "tokens of the prompt", {.min = 1, .max = 75});
    v.Integer("evaluations", &evaluations_, "sequences tried", {.min = 1});
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
  std::string control_of() const override { return "pez"; }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.surrogate = true;
    traits.unmodified = target_ == "image";
    traits.most.candidate_evaluations = evaluations_;
    return traits;
  }
  std::map<std::string, Json> presets() const override {
    return {{"paper",
             {{"prompt_len", 16}, {"evaluations", 3000}, {"target", "image"}, {"tokens", "all"}}},
            {"smoke", {{"evaluations", 4}, {"reference_images", 1}}}};
  }

  Work work(Acts) const override {
    // Sequences are read without padding: three of them are about one row.
    const double batches = static_cast<double>(evaluations_) / kBatch;
    Work work = {{Pass::kText, batches, kBatch / 3.0}};
    if (target_ == "image") {
      work.push_back({Pass::kPicture, 1, static_cast<double>(reference_images_)});
    }
    return work;
  }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const override {
    const NoGrad no_grad;
    const ClipModel& clip = target.Surrogate();
    const at::Tensor features = target_ == "image" ? ImageTargets(target, prompt, reference_images_)
                                                   : TextTarget(target, prompt);
    const HardPromptScorer scorer(
        clip, features, UsableTokens(*clip.tokenizer, tokens_, subject.known), prompt_len_);
    const TokenTable& table = scorer.tokens();
    Philox rng = target.Rng(prompt);
    Trajectory trajectory;
    for (int64_t done = 0; done < evaluations_; done += kBatch) {
      const int64_t batch = std::min(kBatch, evaluations_ - done);
      const at::Tensor ids = table.RandomIds(batch, prompt_len_, &rng);
      const at::Tensor scores = scorer.Similarities(table.Embed(ids)).mean(1);
      target.ledger().candidate_evaluations += batch;
      target.ledger().text_evaluations += batch;
      KeepBest("random", *clip.tokenizer, prompt, ids, scores, target.ledger(), &trajectory);
    }
    return trajectory;
  }

 private:
  static constexpr int64_t kBatch = 16;
  int64_t prompt_len_ = 4, evaluations_ = 200, reference_images_ = 3;
  std::string target_ = "text", tokens_ = "printable";
};

const Registration<Attack, Random> registration;

}  // namespace
}  // namespace excise
