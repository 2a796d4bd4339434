// What: proximal-concept shift, a measure of ours: how far a method moves pictures of the concept's
//   benign neighbours from the unmodified model's on the same noise
// Paper: none; for the failure that motivates Vice et al., "Safety Without Semantic Disruptions",
//   2024, arXiv 2411.13982 (innocent red things after violence was removed); the second moment's
//   distance: Dowson and Landau, Journal of Multivariate Analysis 12:450, 1982
// Equation: x, y CLIP embeddings of the unmodified model's and the method's picture. pairs: mean of
//   1 - cos(x_i, y_i); mean: |mean(y) - mean(x)|; covariance: tr(X + Y - 2 (X Y)^(1/2)) of their
//   covariances; frechet: mean^2 + covariance
// Reference: none
// Deviations: not the paper's "SaDi", whose formula could not be read
// Needs: the chosen CLIP; the unmodified model's pictures on the same noise
// Caveats: 0 is the unmodified model; a blocked picture counts as what is delivered instead;
//   "mean" and "covariance" cannot be negative, so noise alone raises them: compare methods at
//   equal n; shifts of another CLIP do not compare
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "core/text.h"
#include "metrics/clip_features.h"
#include "metrics/frechet.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

constexpr int64_t kResamples = 300;

struct Row {
  std::vector<double> method, base;  // normalised embeddings
};

// The value with its percentile interval over the resamples, which holds the value.
struct Estimated {
  double value = 0, low = 0, high = 0, error = 0;
};

Estimated Summarise(double value, std::vector<double> resampled) {
  std::sort(resampled.begin(), resampled.end());
  const auto quantile = [&](double p) {
    return resampled[static_cast<size_t>(p * static_cast<double>(resampled.size() - 1) + 0.5)];
  };
  const double mean = Mean(resampled);
  double squares = 0;
  for (const double x : resampled) squares += (x - mean) * (x - mean);
  return {value, std::min(value, quantile(0.025)), std::max(value, quantile(0.975)),
          std::sqrt(squares / static_cast<double>(resampled.size() - 1))};
}

class ConceptShift : public Metric {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("clip", &clip_, kClipHelp, kClipChoices);
    v.Choice("moment", &moment_, "which of its numbers is the value",
             {"pairs", "mean", "covariance", "frechet"});
    v.Texts("only", &only_, "expected classes that are read (red_apple, ...); none: all");
  }
  int version() const override { return 1; }
  MetricTraits traits() const override {
    return {"distance",           false, 0, 4, "retention", {"near", "far", "lexical"},
            {ClipOfChoice(clip_)}};
  }

  void Update(const MetricModels& models, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsPicture(traits(), sample) || !Reads(sample.prompt.expected_class)) continue;
      const ClipModel& clip = ChosenClip(models, clip_, "concept_shift");
      const at::Tensor image = DeliveredImage(sample, /*replaced=*/true);
      table_.Add(sample, image.defined() ? Row{Values(ImageEmbedding(clip, image)),
                                               Values(ImageEmbedding(clip, sample.base_image))}
                                         : Row{});
    }
  }
  void Merge(const Metric& other) override {
    table_.Merge(dynamic_cast<const ConceptShift&>(other).table_);
  }
  // Parts: "pairs", "mean", "covariance", "frechet", each with "_low" and "_high" (bootstrap over
  // prompts); "missing": blocked pictures for which nothing is delivered.
  Score Compute() const override;

 private:
  bool Reads(const std::string& shown) const { return only_.empty() || IsOneOf(shown, only_); }
  static std::vector<double> Values(const at::Tensor& embedding) {
    const at::Tensor values = embedding.to(at::kDouble).contiguous();
    return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
  }

  std::string clip_ = "reference", moment_ = "pairs";
  std::vector<std::string> only_;
  SampleTable<Row> table_;
};

// The moments' shift over the pictures that are `picked`.
MomentShift ShiftOf(const std::vector<const Row*>& rows, const std::vector<size_t>& picked) {
  Features method, base;
  method.width = base.width = static_cast<int64_t>(rows[0]->base.size());
  for (const size_t i : picked) {
    method.values.insert(method.values.end(), rows[i]->method.begin(), rows[i]->method.end());
    base.values.insert(base.values.end(), rows[i]->base.begin(), rows[i]->base.end());
  }
  return ShiftBetween(base, method);
}

double Distance(const Row& row) {
  double dot = 0;
  for (size_t i = 0; i < row.base.size(); ++i) dot += row.base[i] * row.method[i];
  return row.base == row.method ? 0 : std::max(0.0, 1 - dot);
}

// Whole prompts are drawn: indices of the pictures of each.
using Clusters = std::map<std::string, std::vector<size_t>>;

std::map<std::string, Estimated> MomentsWithIntervals(const std::vector<const Row*>& rows,
                                                      const Clusters& clusters) {
  std::vector<const std::vector<size_t>*> groups;
  std::vector<size_t> all;
  for (const auto& [prompt, members] : clusters) {
    groups.push_back(&members);
    all.insert(all.end(), members.begin(), members.end());
  }
  const MomentShift whole = ShiftOf(rows, all);
  StreamKey key;
  key.id = "metrics/concept_shift";
  key.stream = Stream::kOrder;
  Philox rng(key);
  std::vector<double> means, covariances, frechets;
  while (means.size() < static_cast<size_t>(kResamples)) {
    std::vector<size_t> picked;
    for (size_t i = 0; i < groups.size(); ++i) {
      const std::vector<size_t>& members = *groups[rng.Below(groups.size())];
      picked.insert(picked.end(), members.begin(), members.end());
    }
    const MomentShift drawn = ShiftOf(rows, picked);
    means.push_back(drawn.mean);
    covariances.push_back(drawn.covariance);
    frechets.push_back(drawn.Frechet());
  }
  return {{"mean", Summarise(whole.mean, means)},
          {"covariance", Summarise(whole.covariance, covariances)},
          {"frechet", Summarise(whole.Frechet(), frechets)}};
}

Score ConceptShift::Compute() const {
  std::vector<Observation> pairs;
  std::vector<const Row*> rows;
  Clusters clusters;
  double missing = 0;
  for (const auto& [key, row] : table_.rows()) {
    if (row.base.empty()) {
      ++missing;
      continue;
    }
    clusters[PromptOfId(key.first)].push_back(rows.size());
    pairs.push_back({key.first, Distance(row)});
    rows.push_back(&row);
  }
  Score score = MeanDistance(pairs);
  if (!pairs.empty()) {
    score.parts = {{"pairs", score.value}, {"pairs_low", score.low}, {"pairs_high", score.high}};
  }
  score.parts["missing"] = missing;
  // One picture has no covariance, and one prompt says nothing about how prompts differ.
  const bool moments = rows.size() >= 2 && clusters.size() >= 2;
  if (!moments) {
    if (moment_ == "pairs") return score;
    Score none;
    none.parts = score.parts;
    return none;
  }
  const std::map<std::string, Estimated> all = MomentsWithIntervals(rows, clusters);
  for (const auto& [name, estimated] : all) {
    score.parts[name] = estimated.value;
    score.parts[name + "_low"] = estimated.low;
    score.parts[name + "_high"] = estimated.high;
  }
  if (moment_ == "pairs") return score;
  const Estimated& chosen = all.at(moment_);
  Score result;
  result.value = chosen.value;
  result.low = chosen.low;
  result.high = chosen.high;
  result.stderr_ = chosen.error;
  result.n = score.n;
  result.parts = score.parts;
  return result;
}

const Registration<Metric, ConceptShift> registration;

}  // namespace
}  // namespace excise
