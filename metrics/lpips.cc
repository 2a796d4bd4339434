// What: how far a method's pictures are from the unmodified model's on the same noise, to the eye
// Paper: Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as
//   a Perceptual Metric", CVPR 2018, arXiv 1801.03924
// Equation: sum over layers of the mean over places of w . (x / |x| - y / |y|)^2, x and y the two
//   pictures' features there
// Reference: richzhang/PerceptualSimilarity, lpips/lpips.py (PyPI lpips 0.1.4, version 0.1)
// Deviations: none
// Needs: the network (`network`: torchvision's AlexNet or VGG16) and LPIPS's heads for it
//   (`heads`), both as safetensors: tools/convert_weights.py; the unmodified model's pictures on
//   the same noise
// Caveats: of target prompts more is better (ESD's and RECE's LPIPS_e), of neighbours less
//   (LPIPS_u); AlexNet's and VGG's values are not comparable. A blocked picture counts as what is
//   delivered instead. Pictures of at least 32 x 32 pixels
#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "metrics/clip_features.h"
#include "metrics/loaded_once.h"
#include "metrics/sample_table.h"
#include "models/nets/lpips_net.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

class Lpips : public Metric {
 public:
  void Fields(ParamVisitor& v) override {
    v.Path("network", &network_, "torchvision's AlexNet or VGG16: a .safetensors file");
    v.Path("heads", &heads_, "LPIPS's weights of its layers: a .safetensors file");
    v.Choice("of", &of_, "pictures of benign neighbours, or of target prompts",
             {"neighbours", "target"});
  }
  int version() const override { return 1; }
  std::vector<std::string> needs_one_of() const override { return {"network"}; }
  MetricTraits traits() const override {
    const bool target = of_ == "target";
    MetricTraits traits{
        "distance", target, 0, 3, target ? "erasure" : "retention", {"near", "far", "lexical"}};
    if (target) traits.sample_groups = {"target"};
    return traits;
  }

  void Update(const MetricModels&, const std::vector<Sample>& samples) override {
    for (const Sample& sample : samples) {
      if (!ReadsPicture(traits(), sample)) continue;
      const at::Tensor image = DeliveredImage(sample, /*replaced=*/true);
      if (!image.defined()) throw Error("lpips: a filter says not what it delivers instead.");
      table_.Add(sample, Distance(image, sample.base_image));
    }
  }
  void Merge(const Metric& other) override {
    table_.Merge(dynamic_cast<const Lpips&>(other).table_);
  }
  Score Compute() const override {
    std::vector<Observation> observations;
    for (const auto& [key, distance] : table_.rows()) observations.push_back({key.first, distance});
    return MeanDistance(observations);
  }

 private:
  double Distance(const at::Tensor& image, const at::Tensor& base) {
    const NoGrad no_grad;
    if (heads_.empty()) {
      throw UsageError(
          "metric lpips: 'heads' is not set: LPIPS's weights of the network's layers, converted "
          "from its alex.pth or vgg.pth.");
    }
    if (net_ == nullptr) {
      net_ = LoadedOnce<LpipsNet>(network_ + "\n" + heads_, [this] {
        return std::make_shared<const LpipsNet>(LoadSafetensors(network_), network_,
                                                LoadSafetensors(heads_), heads_);
      });
    }
    const double distance = net_->Distance(image.unsqueeze(0), base.unsqueeze(0)).item<double>();
    if (!std::isfinite(distance)) {
      throw Error(
          fmt::format("lpips: a distance is not finite. The weights in {} or {} are "
                      "probably damaged: convert them again.",
                      network_, heads_));
    }
    return distance;
  }

  std::string network_, heads_, of_ = "neighbours";
  std::shared_ptr<const LpipsNet> net_;
  SampleTable<double> table_;
};

const Registration<Metric, Lpips> registration;

}  // namespace
}  // namespace excise
