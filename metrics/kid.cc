// What: how far a method's pictures of things that must stay are from the unmodified model's
// Paper: Binkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", ICLR 2018,
//   arXiv 1801.01401
// Equation: unbiased MMD^2 with k(x, y) = (x . y / d + 1)^3 between the two sets' features
// Reference: GaParmar/clean-fid @ e88c4d6, cleanfid/fid.py (kernel_distance)
// Deviations: features are a reference CLIP's embeddings scaled to length sqrt(d), so the kernel is
//   (cos + 1)^3, or the reporting judge's pooled ones: Inception is made for 299-pixel photographs;
//   both sets share noise, so the paired U-statistic leaves same-noise pairs out; all pictures at
//   once instead of subsets, unless `subsets` is set; blocked pictures are left out (part
//   `blocked`: how many); of several edits of one row the mean of their distances
// Needs: a reference CLIP or the reporting judge
// Caveats: negative values mean "not distinguishable"; not comparable with Inception KID
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "metrics/clip_features.h"
#include "metrics/picture_sets.h"
#include "metrics/sample_table.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

class Kid : public Metric {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("features", &features_, "embeddings of the reference CLIP, or the judge's pooled ones",
             {"clip", "judge"});
    v.Choice("estimator", &estimator_,
             "U-statistic without same-noise pairs, or clean-fid's with all pairs",
             {"paired", "unpaired"});
    v.Integer("subsets", &subsets_, "random subsets to average over; 0 = all pictures at once",
              {.min = 0});
    v.Integer("subset_size", &subset_size_, "pictures in a subset", {.min = 2});
  }
  int version() const override { return 1; }
  MetricTraits traits() const override {
    const char* model = features_ == "clip" ? "reference_clip" : "judge";
    return {"mmd2",    false,
            0,         3,
            "quality", {"near", "far", "lexical"},
            {model},   BlockedPictures::kLeftOut};
  }

  // Blocked pictures have no features; they are left out and counted in the part "blocked".
  void Update(const MetricModels& models, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsPicture(traits(), sample)) continue;
      table_.Add(sample, sample.blocked ? PicturePair{}
                                        : PicturePair{Embed(models, sample.image),
                                                      Embed(models, sample.base_image)});
    }
  }
  void Merge(const Metric& other) override { table_.Merge(dynamic_cast<const Kid&>(other).table_); }

  Score Compute() const override {
    return CompareSets(table_, /*least=*/2, [this](const PicturePairs& pairs) {
      return subsets_ == 0 ? Distance(pairs) : OverSubsets(pairs);
    });
  }

 private:
  std::vector<double> Embed(const MetricModels& models, const at::Tensor& image) const {
    const NoGrad no_grad;
    at::Tensor features;
    if (features_ == "clip") {
      features = ImageEmbedding(ReferenceClip(models, "kid"), image);
      features = features.mul(std::sqrt(static_cast<double>(features.size(0))));
    } else {
      if (!models.judge) throw Error("kid: features 'judge' need the reporting judge.");
      features = models.judge->Features(image.unsqueeze(0))[0];
    }
    const at::Tensor values = features.to(at::kDouble).contiguous();
    return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
  }

  Mmd Distance(const PicturePairs& pairs) const {
    return PolynomialMmd2(MethodSide(pairs), BaseSide(pairs),
                          estimator_ == "paired" ? MmdEstimator::kPaired : MmdEstimator::kUnpaired);
  }

  // Mean over subsets; the standard error is the subsets' deviation, as the field reports it.
  Mmd OverSubsets(const PicturePairs& rows) const {
    const int64_t size = std::min<int64_t>(subset_size_, rows.size());
    std::vector<double> values;
    for (int64_t s = 0; s < subsets_; ++s) {
      StreamKey key;
      key.id = "kid/subset";
      key.stream = Stream::kOrder;
      key.step = s;
      Philox rng(key);
      const std::vector<int64_t> order = rng.Permutation(rows.size());
      PicturePairs subset;
      for (int64_t i = 0; i < size; ++i) subset.push_back(rows[order[i]]);
      values.push_back(Distance(subset).value);
    }
    Mmd result;
    result.value = Mean(values);
    for (const double value : values) {
      result.stderr_ += (value - result.value) * (value - result.value);
    }
    result.stderr_ = std::sqrt(result.stderr_ / std::max<double>(1, values.size() - 1.0));
    return result;
  }

  std::string features_ = "clip", estimator_ = "paired";
  int64_t subsets_ = 0, subset_size_ = 100;
  SampleTable<PicturePair> table_;
};

const Registration<Metric, Kid> registration;

}  // namespace
}  // namespace excise
