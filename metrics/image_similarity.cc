// What: how alike a method's pictures and the unmodified model's on the same noise are
// Paper: Radford et al., ICML 2021, arXiv 2103.00020 (the cosine); Wang, Bovik, Sheikh, Simoncelli,
//   "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE Transactions
//   on Image Processing 13:600, 2004
// Equation: clip: cos of the two CLIP embeddings; ssim: mean over windows of (2 m_x m_y + c1)
//   (2 s_xy + c2) / ((m_x^2 + m_y^2 + c1) (s_x^2 + s_y^2 + c2)) of the luminance, c1 = .01^2,
//   c2 = .03^2, Gaussian windows of 11 x 11 pixels and deviation 1.5 inside the picture
// Reference: none
// Deviations: the luminance is .299 R + .587 G + .114 B; the paper's downsampling of large pictures
//   is left out
// Needs: the unmodified model's pictures on the same noise; clip: the chosen CLIP
// Caveats: 1 is the same picture; of the target group it says how much of the scene around the
//   concept was kept, and is not to be 1; a blocked picture counts as what is delivered instead
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/tensor.h>

#include "core/error.h"
#include "metrics/clip_features.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

// uint8 (3, h, w) -> (1, 1, h, w) float64 in [0, 1].
at::Tensor Luminance(const at::Tensor& image) {
  const at::Tensor share = at::tensor({0.299, 0.587, 0.114}).reshape({3, 1, 1});
  return (image.to(at::kDouble).div(255) * share).sum(0).unsqueeze(0).unsqueeze(0);
}

double Ssim(const at::Tensor& first, const at::Tensor& second) {
  constexpr int64_t kWindow = 11;
  constexpr double kC1 = 0.01 * 0.01, kC2 = 0.03 * 0.03;
  if (first.size(1) < kWindow || first.size(2) < kWindow) {
    throw Error("image_similarity: ssim needs pictures of at least 11 x 11 pixels; use clip.");
  }
  at::Tensor bell = (at::arange(kWindow, at::kDouble) - (kWindow - 1) / 2).div(1.5);
  bell = bell.square().mul(-0.5).exp();
  bell = bell / bell.sum();
  const at::Tensor window = at::outer(bell, bell).reshape({1, 1, kWindow, kWindow});
  const at::Tensor x = Luminance(first), y = Luminance(second);
  const auto local = [&](const at::Tensor& values) { return at::conv2d(values, window); };
  const at::Tensor mx = local(x), my = local(y);
  const at::Tensor sxx = local(x * x) - mx * mx, syy = local(y * y) - my * my,
                   sxy = local(x * y) - mx * my;
  const at::Tensor map =
      (2 * mx * my + kC1) * (2 * sxy + kC2) / ((mx * mx + my * my + kC1) * (sxx + syy + kC2));
  return map.mean().item<double>();
}

class ImageSimilarity : public Metric {
 public:
  void Fields(ParamVisitor& v) override {
    v.Choice("measure", &measure_, "cosine of CLIP embeddings, or structural similarity of pixels",
             {"clip", "ssim"});
    v.Choice("clip", &clip_, kClipHelp, kClipChoices);
    v.Choice("of", &of_, "pictures of benign neighbours, or of target prompts",
             {"neighbours", "target"});
  }
  int version() const override { return 1; }
  MetricTraits traits() const override {
    const std::vector<std::string> benign = {"near", "far", "lexical"};
    return {measure_ == "clip" ? "cosine" : "ssim",
            true,
            0,
            3,
            "retention",
            of_ == "target" ? std::vector<std::string>{"target"} : benign,
            measure_ == "clip" ? std::vector<std::string>{ClipOfChoice(clip_)}
                               : std::vector<std::string>{}};
  }

  void Update(const MetricModels& models, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsPicture(traits(), sample)) continue;
      const at::Tensor image = DeliveredImage(sample, /*replaced=*/true);
      table_.Add(sample, image.defined() ? Similarity(models, image, sample.base_image) : 0);
    }
  }
  void Merge(const Metric& other) override {
    table_.Merge(dynamic_cast<const ImageSimilarity&>(other).table_);
  }
  Score Compute() const override {
    std::vector<Observation> observations;
    for (const auto& [key, similarity] : table_.rows()) {
      observations.push_back({key.first, similarity});
    }
    return MeanDistance(observations);
  }

 private:
  double Similarity(const MetricModels& models, const at::Tensor& image,
                    const at::Tensor& base) const {
    if (image.equal(base)) return 1;
    if (measure_ == "ssim") return Ssim(image, base);
    const ClipModel& clip = ChosenClip(models, clip_, "image_similarity");
    return at::dot(ImageEmbedding(clip, image), ImageEmbedding(clip, base)).item<double>();
  }

  std::string measure_ = "clip", clip_ = "reference", of_ = "neighbours";
  SampleTable<double> table_;
};

const Registration<Metric, ImageSimilarity> registration;

}  // namespace
}  // namespace excise
