// What: zero-shot accuracy: how often a picture's nearest class text is its own class's
// Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
//   ICML 2021, arXiv 2103.00020
// Equation: mean over pictures of [cos(picture, own text) > max cos(picture, other texts)]
// Reference: aimagelab/safe-clip @ a638c0a, openclip_zeroshot.py
// Deviations: one template, no ensemble of prompts; a tie counts as wrong
// Needs: embeddings of pictures outside the quadruplets, with the texts of all their classes
// Caveats: chance is 1 over the number of classes (part `chance`)
#include "core/error.h"
#include "metrics/retrieval.h"

namespace excise {
namespace {

struct Outcome {
  bool correct = false, base_correct = false;
  int64_t classes = 0;
};

// Row 0 the picture, row 1 its own class's text, then the others.
bool IsCorrect(const at::Tensor& embeddings) {
  const at::Tensor rows = embeddings.to(at::kDouble);
  const at::Tensor cosines = rows.slice(0, 1).mul(rows[0]).sum(1);
  return cosines[0].item<double>() > cosines.slice(0, 1).max().item<double>() + kTie;
}

class ZeroShot : public Metric {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MetricTraits traits() const override {
    return {"fraction", true, 0, 1, "retrieval", {"zero_shot"}};
  }

  void Update(const MetricModels&, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsGroup(traits(), sample)) continue;
      if (!sample.embeddings.defined() || sample.embeddings.dim() != 2 ||
          sample.embeddings.size(0) < 3 || !sample.embeddings.isfinite().all().item<bool>()) {
        throw Error(
            "Metric 'zero_shot' reads finite embeddings of a picture and of the texts of at least "
            "two classes; sample " +
            SampleId(sample) + " has none.");
      }
      Outcome outcome;
      outcome.correct = IsCorrect(sample.embeddings);
      outcome.base_correct = sample.base_embeddings.defined() && IsCorrect(sample.base_embeddings);
      outcome.classes = sample.embeddings.size(0) - 1;
      table_.Add(sample, outcome);
    }
  }
  void Merge(const Metric& other) override {
    table_.Merge(dynamic_cast<const ZeroShot&>(other).table_);
  }
  Score Compute() const override {
    std::vector<Observation> observations;
    double base = 0, chance = 0;
    for (const auto& [key, outcome] : table_.rows()) {
      observations.push_back({key.first, outcome.correct ? 1.0 : 0.0});
      base += outcome.base_correct;
      chance += 1.0 / static_cast<double>(outcome.classes);
    }
    Score score = MeanScore(observations);
    if (score.n == 0) return score;
    const auto n = static_cast<double>(score.n);
    score.parts = {{"base", base / n}, {"chance", chance / n}};
    return score;
  }

 private:
  SampleTable<Outcome> table_;
};

const Registration<Metric, ZeroShot> registration;

}  // namespace
}  // namespace excise
