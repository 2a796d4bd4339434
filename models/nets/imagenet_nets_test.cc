#include "models/nets/imagenet_nets.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/imagenet_files.h"

namespace excise {

using Catch::Contains;

TEST_CASE("a ResNet of bottlenecks says of real pictures what torchvision's says") {
  const ImageNetNet net(FormulaResNet(), "test");
  CHECK(net.architecture() == "resnet");
  const std::vector<JudgedPicture> judged = JudgedPictures("resnet");
  REQUIRE(judged.size() >= 4);
  double furthest = 0, between = 0;
  for (const JudgedPicture& one : judged) {
    const ImageNetOutput output = net.Forward(net.Preprocess(one.picture));
    CHECK(output.pooled.sizes() == at::IntArrayRef({1, 2048}));
    furthest = std::max(furthest, (output.logits[0] - one.said).abs().max().item<double>());
    between = std::max(between, (judged[0].said - one.said).abs().max().item<double>());
  }
  INFO("of logits that differ by up to " << between << " between pictures");
  CHECK(furthest < 1e-4);
  CHECK(between > 0.02);
}

TEST_CASE("the middle of a picture is what a network sees, whatever its shape") {
  const ImageNetNet net(FormulaResNet(4), "test");
  for (const std::vector<int64_t>& size :
       {std::vector<int64_t>{64, 64}, {224, 500}, {777, 256}, {1, 1}, {3, 999}}) {
    const at::Tensor picture = at::full({2, 3, size[0], size[1]}, 51, at::kByte);
    const at::Tensor pixels = net.Preprocess(picture);
    REQUIRE(pixels.sizes() == at::IntArrayRef({2, 3, 224, 224}));
    // A uniform picture stays one: (0.2 - mean) / deviation.
    CHECK(pixels[1][0].min().item<double>() == Approx((0.2 - 0.485) / 0.229).margin(1e-5));
    CHECK(pixels[1][2].max().item<double>() == Approx((0.2 - 0.406) / 0.225).margin(1e-5));
  }
}

TEST_CASE("weights of another network are refused by name") {
  StateDict weights = FormulaResNet(4);
  StateDict none;
  none.Set("stem.0.weight", weights.Get("conv1.weight"));
  CHECK_THROWS_WITH(ImageNetNet(none, "x.safetensors"),
                    Contains("x.safetensors") && Contains("convert_weights"));
  StateDict half;
  for (const auto& [name, tensor] : weights) {
    if (name != "layer3.0.bn2.bias") half.Set(name, tensor);
  }
  CHECK_THROWS_WITH(ImageNetNet(half, "x.safetensors"),
                    Contains("x.safetensors") && Contains("layer3.0.bn2.bias"));
  StateDict odd = weights;
  odd.Set("layer2.0.conv2.weight", weights.Get("layer3.0.conv2.weight"));
  CHECK_THROWS_WITH(ImageNetNet(odd, "x.safetensors"), Contains("do not fit together"));
  StateDict few = weights;
  few.Set("fc.weight", weights.Get("fc.weight").narrow(0, 0, 10));
  few.Set("fc.bias", weights.Get("fc.bias").narrow(0, 0, 10));
  CHECK_THROWS_WITH(ImageNetNet(few, "x.safetensors"), Contains("[1, 10] and not [1, 1000]"));
}

}  // namespace excise
