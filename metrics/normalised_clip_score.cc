// What: how well delivered pictures of things that must stay match their prompts, against the
//   unmodified model's
// Paper: Das, Duddu, Zhang, Asokan, "Espresso: Robust Concept Filtering in Text-to-Image Models",
//   CODASPY 2025, arXiv 2404.19227 (normalised CLIP score)
// Equation: R = sum of cos(picture, prompt) / sum of cos(unmodified model's picture, prompt);
//   interval: delta method, residuals m - R b summed by prompt
// Reference: none
// Deviations: the paper leaves open whether ratios are averaged or means divided: means here, as
//   single cosines may be near 0. A blocked picture counts as what is delivered instead (parameter
//   blocked: or 0); part "blocked" says how many there were
// Needs: the chosen CLIP; the unmodified model's pictures on the same noise
// Caveats: 1 is the unmodified model; a picture may match its prompt better than that one's
#include <ATen/core/Tensor.h>
#include <ATen/ops/dot.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/stats.h"
#include "metrics/clip_features.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

struct Row {
  double score = 0, base = 0;
  bool blocked = false;
};

class NormalisedClipScore : public Metric {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("clip", &clip_, kClipHelp, kClipChoices);
    v.Choice("blocked", &blocked_, "what a blocked picture counts", {"replacement", "zero"});
  }
  int version() const override { return 1; }
  MetricTraits traits() const override {
    return {"ratio",
            true,
            0,
            3,
            "filter",
            {"near", "far", "lexical"},
            {ClipOfChoice(clip_)},
            blocked_ == "zero" ? BlockedPictures::kNothing : BlockedPictures::kReplaced};
  }

  void Update(const MetricModels& models, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsPicture(traits(), sample)) continue;
      if (!sample.base_image.defined()) {
        throw Error("normalised_clip_score: the unmodified model's picture of prompt " +
                    sample.prompt.root_id + " is not there, so there is nothing to compare with.");
      }
      const ClipModel& clip = ChosenClip(models, clip_, "normalised_clip_score");
      const at::Tensor text = TextEmbeddings(clip, {sample.prompt.text})[0];
      const auto score = [&](const at::Tensor& image) {
        return image.defined() ? at::dot(ImageEmbedding(clip, image), text).item<double>() : 0;
      };
      table_.Add(sample, {score(DeliveredImage(sample, blocked_ == "replacement")),
                          score(sample.base_image), sample.blocked});
    }
  }
  void Merge(const Metric& other) override {
    table_.Merge(dynamic_cast<const NormalisedClipScore&>(other).table_);
  }

  // per_sample: score / mean of the base's, whose mean is the value.
  Score Compute() const override {
    Score score;
    double sum = 0, base = 0, blocked = 0;
    for (const auto& [key, row] : table_.rows()) {
      sum += row.score;
      base += row.base;
      blocked += row.blocked;
    }
    if (table_.rows().empty()) return score;
    const auto n = static_cast<double>(table_.rows().size());
    score.parts = {{"score", sum / n}, {"base", base / n}, {"blocked", blocked / n}};
    if (base <= 0) return score;  // nothing to compare with
    score.n = static_cast<int64_t>(n);
    score.value = sum / base;
    std::map<std::string, double> residuals;  // by prompt
    for (const auto& [key, row] : table_.rows()) {
      score.sample_ids.push_back(key.first);
      score.per_sample.push_back(row.score / (base / n));
      residuals[PromptOfId(key.first)] += row.score - score.value * row.base;
    }
    double squares = 0;
    for (const auto& [prompt, residual] : residuals) squares += residual * residual;
    const auto prompts = static_cast<double>(residuals.size());
    // One prompt alone says nothing about how prompts differ.
    score.stderr_ = prompts > 1 ? std::sqrt(prompts / (prompts - 1) * squares) / base : 0;
    const double half = NormalQuantile(0.975) * score.stderr_;
    score.low = score.value - half;
    score.high = score.value + half;
    return score;
  }

 private:
  std::string clip_ = "reference", blocked_ = "replacement";
  SampleTable<Row> table_;
};

const Registration<Metric, NormalisedClipScore> registration;

}  // namespace
}  // namespace excise
