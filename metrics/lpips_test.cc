// LPIPS with weights by a formula against the package lpips, on photographs.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "metrics/metric.h"
#include "models/nets/lpips_net.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/imagenet_files.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

using Catch::Contains;

std::string Saved(const std::string& name, const StateDict& weights) {
  const std::filesystem::path file = TestFolder("lpips_" + name) / (name + ".safetensors");
  SaveSafetensors(file, weights);
  return file.string();
}

Score ScoreOf(const Json& params, const std::vector<Sample>& samples) {
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make("lpips");
  DecodeParams(params, *metric, "test");
  metric->Update({}, samples);
  return metric->Compute();
}

}  // namespace

TEST_CASE("lpips: a picture and its mirror image are as far apart as the package says") {
  const NoGrad no_grad;
  for (const bool vgg : {false, true}) {
    INFO((vgg ? "VGG16" : "AlexNet"));
    const LpipsNet net(FormulaTrunk(vgg), "trunk", FormulaHeads(vgg), "heads");
    double furthest = 0, most = 0;
    for (const JudgedPicture& one : JudgedPictures(vgg ? "lpips_vgg" : "lpips_alex")) {
      const double said = net.Distance(one.picture, one.picture.flip(3))[0].item<double>();
      furthest = std::max(furthest, std::abs(said - one.said[0].item<double>()));
      most = std::max(most, said);
      CHECK(net.Distance(one.picture, one.picture)[0].item<double>() == 0);
    }
    CHECK(furthest < 1e-4);
    CHECK(most > 0.01);
  }
}

TEST_CASE("lpips: the mean over pictures, of neighbours or of target prompts") {
  const std::string network = Saved("alexnet", FormulaTrunk(false, 8)),
                    heads = Saved("alex_heads", FormulaHeads(false, 8));
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "near", 3, 1);
  const LpipsNet net(FormulaTrunk(false, 8), "trunk", FormulaHeads(false, 8), "heads");
  double sum = 0;
  for (const Sample& sample : samples) {
    const NoGrad no_grad;
    sum +=
        net.Distance(sample.image.unsqueeze(0), sample.base_image.unsqueeze(0))[0].item<double>();
  }
  const Json params = {{"network", network}, {"heads", heads}};
  CHECK(ScoreOf(params, samples).value == Approx(sum / 3));
  Json target = params;
  target["of"] = "target";
  CHECK(ScoreOf(target, samples).n == 0);
  // What is delivered instead of a blocked picture is compared.
  for (Sample& sample : samples) {
    sample.blocked = true;
    sample.image = at::Tensor();
    sample.replacement = sample.base_image;
  }
  CHECK(ScoreOf(params, samples).value == 0);
}

TEST_CASE("lpips: what does not fit is refused") {
  CHECK_THROWS_WITH(LpipsNet(FormulaTrunk(false, 8), "alex.safetensors", FormulaHeads(true, 8),
                             "vgg_heads.safetensors"),
                    Contains("vgg_heads.safetensors") && Contains("lin1"));
  CHECK_THROWS_WITH(LpipsNet(FormulaResNet(4), "resnet.safetensors", FormulaHeads(false), "heads"),
                    Contains("resnet.safetensors") && Contains("features.0"));
  const LpipsNet net(FormulaTrunk(false, 8), "trunk", FormulaHeads(false, 8), "heads");
  const at::Tensor small = ToUint8(TinyImages(1, 3)).narrow(2, 0, 16);
  CHECK_THROWS_WITH(net.Distance(small, small), Contains("32 x 32"));
  const std::vector<Sample> samples = TinySamples(TinyConcept(), "near", 1, 1);
  CHECK_THROWS_WITH(ScoreOf({{"network", Saved("alone", FormulaTrunk(false, 8))}}, samples),
                    Contains("heads"));
}

}  // namespace excise
