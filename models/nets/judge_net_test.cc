#include "models/nets/judge_net.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "core/store.h"
#include "core/text.h"
#include "models/nets/nn.h"
#include "models/tensors/numerics.h"
#include "models/tensors/safetensors.h"
#include "tests/gradient_check.h"
#include "tests/testdata.h"

namespace excise {
namespace {

JudgeConfig Config(const std::string& architecture) {
  JudgeConfig config;
  config.architecture = architecture;
  config.channels = {8, 16, 16, 24};
  config.num_classes = 5;
  config.num_styles = 3;
  return config;
}

at::Tensor Images(int64_t n, int64_t size, int k = 0) {
  return nn::InitUniform({n, 3, size, size}, 0.5, static_cast<uint64_t>(k), "images") + 0.5;
}

double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a - b).abs().max().item<double>();
}

TEST_CASE("outputs have the documented shapes") {
  for (const char* architecture : {"resnet", "plain"}) {
    const JudgeConfig config = Config(architecture);
    const auto out = JudgeForward(config, InitJudge(config, 1), Images(2, 64));
    CHECK(out.class_logits.sizes() == at::IntArrayRef({2, 6}));
    CHECK(out.style_logits.sizes() == at::IntArrayRef({2, 3}));
    CHECK(out.pooled.sizes() == at::IntArrayRef({2, 24}));
    REQUIRE(out.features.size() == 4);
    for (size_t i = 0; i < 4; ++i) {
      CHECK(out.features[i].size(1) == config.channels[i]);
      CHECK(out.features[i].size(2) == 32 >> i);
    }
    CHECK(MaxDifference(out.pooled, out.features[3].mean({2, 3})) < 1e-6);
  }
}

TEST_CASE("training uses batch statistics and moves the running ones by a tenth") {
  UseOneThreadPerWorker();
  const JudgeConfig config = Config("resnet");
  const StateDict weights = InitJudge(config, 1);
  const at::Tensor images = Images(4, 64);
  const at::Tensor x = images * 2 - 1;
  const at::Tensor stem = nn::Conv2d(weights, "stem", x, 2, 1);
  const at::Tensor mean = stem.mean({0, 2, 3});
  // PyTorch keeps the unbiased variance, n / (n - 1).
  const at::Tensor variance = stem.var({0, 2, 3}, /*unbiased=*/true);
  const void* storage = weights.Get("stem_norm.running_mean").data_ptr();

  const auto evaluated = JudgeForward(config, weights, images);
  CHECK(weights.Get("stem_norm.running_mean").abs().max().item<double>() == 0);
  const auto trained = JudgeForward(config, weights, images, /*training=*/true);
  CHECK(MaxDifference(evaluated.class_logits, trained.class_logits) > 1e-3);
  CHECK(weights.Get("stem_norm.running_mean").data_ptr() == storage);
  CHECK(MaxDifference(weights.Get("stem_norm.running_mean"), mean * 0.1) < 1e-6);
  CHECK(MaxDifference(weights.Get("stem_norm.running_var"), variance * 0.1 + 0.9) < 1e-6);
}

TEST_CASE("evaluation judges each picture by itself") {
  UseOneThreadPerWorker();
  for (const char* architecture : {"resnet", "plain"}) {
    const JudgeConfig config = Config(architecture);
    const StateDict weights = InitJudge(config, 1);
    const at::Tensor images = Images(5, 64);
    const auto all = JudgeForward(config, weights, images);
    const auto one = JudgeForward(config, weights, images.narrow(0, 3, 1));
    CHECK(MaxDifference(all.class_logits.narrow(0, 3, 1), one.class_logits) < 1e-4);
  }
}

TEST_CASE("a residual block with zeroed convolutions passes its input on") {
  JudgeConfig config = Config("resnet");
  config.channels = {8};
  StateDict weights = InitJudge(config, 1);
  const at::Tensor before = weights.Get("stages.0.conv2.weight");
  weights.Set("stages.0.conv2.weight", at::zeros_like(before));
  const at::Tensor images = Images(2, 64);
  const at::Tensor stem = nn::Conv2d(weights, "stem", images * 2 - 1, 2, 1);
  // Fresh running statistics are 0 and 1, so the norm only divides by sqrt(1 + eps).
  const at::Tensor expected = stem.clamp_min(0) / std::sqrt(1 + 1e-5);
  CHECK(MaxDifference(JudgeForward(config, weights, images).features[0], expected) < 1e-5);
  // In training the batch's mean and (biased) variance take their place.
  const at::Tensor mean = stem.mean({0, 2, 3}, /*keepdim=*/true);
  const at::Tensor variance = (stem - mean).square().mean({0, 2, 3}, /*keepdim=*/true);
  const at::Tensor normalised = ((stem - mean) / (variance + 1e-5).sqrt()).clamp_min(0);
  CHECK(MaxDifference(JudgeForward(config, weights, images, true).features[0], normalised) < 1e-4);
}

TEST_CASE("fresh weights follow He et al. and differ by seed") {
  const JudgeConfig config = Config("resnet");
  const StateDict weights = InitJudge(config, 1);
  const at::Tensor& conv = weights.Get("stages.3.conv2.weight");
  const double deviation = conv.square().mean().sqrt().item<double>();
  CHECK(deviation == Approx(std::sqrt(2.0 / (24 * 9))).epsilon(0.05));
  CHECK_FALSE(at::equal(conv, InitJudge(config, 2).Get("stages.3.conv2.weight")));
  CHECK(at::equal(conv, InitJudge(config, 1).Get("stages.3.conv2.weight")));
}

TEST_CASE("the gradient of the judgement reaches pixels") {
  UseOneThreadPerWorker();
  for (const char* architecture : {"resnet", "plain"}) {
    JudgeConfig config = Config(architecture);
    config.channels = {8, 8};
    config.image_size = 8;
    StateDict weights;
    for (const auto& [name, tensor] : InitJudge(config, 1)) {
      weights.Set(name, tensor.to(at::kDouble));
    }
    const at::Tensor images = Images(1, 8).to(at::kDouble);
    auto features = [&] { return JudgeForward(config, weights, images).features[1]; };
    CHECK(GradientError(features, {images}) < 1e-5);
  }
}

// A task that a working network learns in a few steps: which third of the picture is bright.
TEST_CASE("both architectures learn") {
  UseOneThreadPerWorker();
  for (const char* architecture : {"resnet", "plain"}) {
    JudgeConfig config = Config(architecture);
    config.channels = {8, 16};
    config.num_classes = 2;
    config.image_size = 16;
    const StateDict weights = InitJudge(config, 5);
    std::vector<at::Tensor> parameters;
    for (const auto& [name, tensor] : weights) {
      if (name.find("running") != std::string::npos || StartsWith(name, "style")) continue;
      parameters.push_back(tensor);
      parameters.back().requires_grad_();
    }
    const at::Tensor labels = at::arange(24, at::kLong).remainder(3);
    auto batch = [&](int k) {
      at::Tensor images = Images(24, 16, k) * 0.5;
      for (int64_t i = 0; i < 24; ++i) images[i].narrow(1, i % 3 * 5, 5).add_(0.4);
      return images;
    };
    for (int step = 0; step < 60; ++step) {
      const auto out = JudgeForward(config, weights, batch(step), /*training=*/true);
      const auto gradients =
          Gradients(at::cross_entropy_loss(out.class_logits, labels), parameters);
      const NoGrad no_grad;
      for (size_t i = 0; i < parameters.size(); ++i) parameters[i].sub_(gradients[i] * 0.1);
    }
    const NoGrad no_grad;
    const auto out = JudgeForward(config, weights, batch(1000));
    INFO(architecture);
    CHECK(out.class_logits.argmax(1).eq(labels).sum().item<int64_t>() >= 22);
  }
}

TEST_CASE("bfloat16 autocast stays near float32 and returns float32 logits") {
  for (const char* architecture : {"resnet", "plain"}) {
    const JudgeConfig config = Config(architecture);
    const StateDict weights = InitJudge(config, 1);
    const auto exact = JudgeForward(config, weights, Images(2, 64), true);
    const Autocast autocast(true);
    const auto half = JudgeForward(config, weights, Images(2, 64), true);
    CHECK(half.features[2].scalar_type() == at::kBFloat16);
    CHECK(half.class_logits.scalar_type() == at::kFloat);
    CHECK(MaxDifference(half.class_logits, exact.class_logits) <
          0.05 * exact.class_logits.abs().max().item<double>());
  }
}

TEST_CASE("a judge's folder round-trips, and a wrong one is refused") {
  const auto folder = TestFolder("judge");
  JudgeConfig config = Config("plain");
  config.class_ids = {"a", "b", "c", "d", "e"};
  const StateDict weights = InitJudge(config, 1);
  WriteFileAtomically(folder / "config.json", CanonicalJson(JudgeConfigToJson(config)));
  SaveSafetensors(folder / "model.safetensors", weights);
  const JudgeNet judge = LoadJudgeNet(folder);
  CHECK(judge.config.class_ids == config.class_ids);
  CHECK(judge.config.channels == config.channels);
  CHECK(judge.digest.size() == 64);
  const at::Tensor images = Images(2, 64);
  CHECK(at::equal(JudgeForward(judge.config, judge.weights, images).class_logits,
                  JudgeForward(config, weights, images).class_logits));

  SaveSafetensors(folder / "model.safetensors", InitJudge(config, 2));
  CHECK(LoadJudgeNet(folder).digest != judge.digest);
  config.num_styles = 4;
  WriteFileAtomically(folder / "config.json", CanonicalJson(JudgeConfigToJson(config)));
  CHECK_THROWS_WITH(LoadJudgeNet(folder), Catch::Contains("style_head"));
  config.num_classes = 6;
  CHECK_THROWS_WITH(ParseJudgeConfig(JudgeConfigToJson(config), "judge.json"),
                    Catch::Contains("class_ids") && Catch::Contains("judge.json"));
  config.class_ids.clear();
  config.num_classes = int64_t{1} << 60;
  CHECK_THROWS_WITH(ParseJudgeConfig(JudgeConfigToJson(config), "j"),
                    Catch::Contains("num_classes"));
  config = Config("vit");
  CHECK_THROWS_WITH(ParseJudgeConfig(JudgeConfigToJson(config), "j"), Catch::Contains("'vit'"));
  CHECK_THROWS_AS(ParseJudgeConfig(Json::object(), "j"), Error);
}

}  // namespace
}  // namespace excise
