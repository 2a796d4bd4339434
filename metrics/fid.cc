// What: the Frechet or Kernel Inception Distance between a method's pictures and the unmodified
//   model's, or a folder's
// Paper: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
//   Equilibrium", NeurIPS 2017, arXiv 1706.08500; Parmar, Zhang, Zhu, "On Aliased Resizing and
//   Surprising Subtleties in GAN Evaluation", CVPR 2022, arXiv 2104.11222; KID: Binkowski et al.,
//   ICLR 2018, arXiv 1801.01401
// Equation: fid: |m_x - m_y|^2 + tr(X + Y - 2 (X Y)^(1/2)) of means and covariances (over n - 1) of
//   Inception features; kid: unbiased MMD^2 with k(x, y) = (x . y / d + 1)^3
// Reference: GaParmar/clean-fid @ e88c4d6, cleanfid/fid.py; mseitzer/pytorch-fid 0.3.0
// Deviations: the trace is a sum of singular values of the two sets' centred features, so few
//   pictures need no 2048 x 2048 root; KID is of all pictures at once, not of subsets; the network
//   is pytorch-fid's, of which clean-fid has NVIDIA's copy; of several edits of one row the mean of
//   their distances
// Needs: the network's weights as safetensors: tools/convert_weights.py makes them of
//   pt_inception-2015-12-05-6726825d.pth; the unmodified model's pictures, or `reference`
// Caveats: the FID of few pictures is far too large (2,048 is the least for a covariance of full
//   rank): compare equal numbers alone, or take kid, which has no bias. Papers measure against
//   COCO's photographs (`reference` takes them) or another model's pictures: read which. The
//   interval is of a jackknife over ten parts of the method's pictures; blocked ones are left out
//   (part `blocked`)
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "metrics/frechet.h"
#include "metrics/loaded_once.h"
#include "metrics/picture_sets.h"
#include "models/nets/fid_inception.h"
#include "models/pictures/picture_file.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

// The pairs but those of the part (i mod parts).
PicturePairs Without(const PicturePairs& pairs, size_t part, size_t parts) {
  PicturePairs others;
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (i % parts != part) others.push_back(pairs[i]);
  }
  return others;
}

class Fid : public Metric {
 public:
  void Fields(ParamVisitor& v) override {
    v.Path("weights", &weights_, "the Inception network: a .safetensors file");
    v.Choice("distance", &distance_, "of two normal distributions, or of kernels", {"fid", "kid"});
    v.Choice("resizing", &resizing_, "as clean-fid, or as pytorch-fid", {"clean", "legacy"});
    v.Choice("of", &of_, "pictures of benign neighbours, or of target prompts",
             {"neighbours", "target"});
    v.Path("reference", &reference_,
           "a folder of PNG and JPEG files to compare with instead of the unmodified model's "
           "pictures");
  }
  int version() const override { return 1; }
  std::vector<std::string> needs_one_of() const override { return {"weights"}; }
  MetricTraits traits() const override {
    MetricTraits traits{
        distance_, false, 0, distance_ == "fid" ? 1 : 3, "quality", {"near", "far", "lexical"}};
    if (of_ == "target") traits.sample_groups = {"target"};
    traits.blocked = BlockedPictures::kLeftOut;
    return traits;
  }

  void Update(const MetricModels&, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsPicture(traits(), sample)) continue;
      PicturePair pair;
      if (!sample.blocked) {
        pair.method = Embed(sample.image);
        if (reference_.empty()) pair.base = Embed(sample.base_image);
      }
      table_.Add(sample, pair);
    }
  }
  void Merge(const Metric& other) override { table_.Merge(dynamic_cast<const Fid&>(other).table_); }

  Score Compute() const override {
    Score score = CompareSets(table_, /*least=*/4, [this](const PicturePairs& pairs) {
      return Mmd{Distance(pairs), JackknifeError(pairs)};
    });
    if (score.n > 0 && !reference_.empty()) {
      score.parts["reference"] = static_cast<double>(ReferenceRows()->values.size()) /
                                 static_cast<double>(ReferenceRows()->width);
    }
    return score;
  }

 private:
  static constexpr size_t kParts = 10;

  std::shared_ptr<const FidInception> Net() const {
    return LoadedOnce<FidInception>(weights_, [this] {
      return std::make_shared<const FidInception>(LoadSafetensors(weights_), weights_);
    });
  }

  std::vector<double> Embed(const at::Tensor& image) const {
    const NoGrad no_grad;
    const at::Tensor batch = image.unsqueeze(0);
    const at::Tensor pixels = resizing_ == "clean" ? FidInception::PreprocessClean(batch)
                                                   : FidInception::PreprocessLegacy(batch);
    const at::Tensor features = Net()->Features(pixels)[0].to(at::kDouble).contiguous();
    const double* begin = features.data_ptr<double>();
    if (!std::all_of(begin, begin + features.numel(), [](double x) { return std::isfinite(x); })) {
      throw Error("fid: a picture's features are not finite. The weights in " + weights_ +
                  " are probably damaged: convert them again.");
    }
    return {begin, begin + features.numel()};
  }

  // Of the folder's pictures; read once a program.
  std::shared_ptr<const Features> ReferenceRows() const {
    return LoadedOnce<Features>(weights_ + " " + resizing_ + " " + reference_, [this] {
      auto rows = std::make_shared<Features>();
      for (const std::filesystem::path& file : PictureFiles(reference_)) {
        const std::vector<double> row = Embed(ReadPicture(file));
        rows->width = static_cast<int64_t>(row.size());
        rows->values.insert(rows->values.end(), row.begin(), row.end());
      }
      if (rows->values.size() < 2 * static_cast<size_t>(rows->width) || rows->width == 0) {
        throw UsageError("fid: the folder of 'reference', " + reference_ +
                         ", has fewer than two pictures (.png, .jpg). Name one that has them.");
      }
      return rows;
    });
  }

  double Distance(const PicturePairs& pairs) const {
    const Features method = MethodSide(pairs);
    const Features base = reference_.empty() ? BaseSide(pairs) : *ReferenceRows();
    return distance_ == "fid" ? ShiftBetween(method, base).Frechet()
                              : PolynomialMmd2(method, base, MmdEstimator::kUnpaired).value;
  }

  // The jackknife's, leaving out a part at a time.
  double JackknifeError(const PicturePairs& pairs) const {
    const size_t parts = std::min(kParts, pairs.size());
    std::vector<double> values;
    for (size_t part = 0; part < parts; ++part) {
      values.push_back(Distance(Without(pairs, part, parts)));
    }
    const double mean = Mean(values);
    double sum = 0;
    for (const double value : values) sum += (value - mean) * (value - mean);
    const auto count = static_cast<double>(parts);
    return std::sqrt(sum * (count - 1) / count);
  }

  std::string weights_, distance_ = "fid", resizing_ = "clean", of_ = "neighbours", reference_;
  SampleTable<PicturePair> table_;
};

const Registration<Metric, Fid> registration;

}  // namespace
}  // namespace excise
