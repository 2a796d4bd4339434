// The Inception network with weights by a formula against pytorch-fid, on photographs; distances by
// hand.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "core/error.h"
#include "metrics/frechet.h"
#include "metrics/metric.h"
#include "models/nets/fid_inception.h"
#include "models/pictures/image_io.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/imagenet_files.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

using Catch::Contains;

constexpr int64_t kNarrow = 16;

std::filesystem::path Weights() {
  static const std::filesystem::path file = [] {
    const std::filesystem::path made = TestFolder("fid") / "inception.safetensors";
    SaveSafetensors(made, FormulaInception(kNarrow));
    return made;
  }();
  return file;
}

Score ScoreOf(Json params, const std::vector<Sample>& samples) {
  params["weights"] = Weights().string();
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make("fid");
  DecodeParams(params, *metric, "test");
  metric->Update({}, samples);
  return metric->Compute();
}

// Features of these pictures (n, 3, h, w), as the metric has them.
Features Rows(const std::vector<at::Tensor>& images) {
  const FidInception net(FormulaInception(kNarrow), "formula");
  const NoGrad no_grad;
  Features rows;
  for (const at::Tensor& image : images) {
    const at::Tensor one =
        net.Features(FidInception::PreprocessClean(image.unsqueeze(0)))[0].to(at::kDouble);
    rows.width = one.numel();
    rows.values.insert(rows.values.end(), one.data_ptr<double>(),
                       one.data_ptr<double>() + one.numel());
  }
  return rows;
}

}  // namespace

TEST_CASE("fid: the network's features are pytorch-fid's, of clean and of legacy resizing") {
  const FidInception net(FormulaInception(), "formula");
  const NoGrad no_grad;
  for (const bool clean : {true, false}) {
    double furthest = 0, apart = 0;
    at::Tensor first;
    for (const JudgedPicture& one : JudgedPictures(clean ? "fid_clean" : "fid_legacy")) {
      const at::Tensor pixels = clean ? FidInception::PreprocessClean(one.picture)
                                      : FidInception::PreprocessLegacy(one.picture);
      const at::Tensor off = (net.Features(pixels)[0] - one.said).abs();
      furthest = std::max(furthest, (off.max() / one.said.abs().max()).item<double>());
      if (!first.defined()) first = one.said;
      apart = std::max(apart, ((one.said - first).abs().max() / first.max()).item<double>());
    }
    CHECK(furthest < 1e-4);
    CHECK(apart > 0.01);  // pictures get through
  }
}

TEST_CASE("fid: the distance between the two sets' features") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "near", 6, 1);
  std::vector<at::Tensor> images, base_images;
  for (const Sample& sample : samples) {
    images.push_back(sample.image);
    base_images.push_back(sample.base_image);
  }
  const Score score = ScoreOf({}, samples);
  CHECK(score.n == 6);
  CHECK(score.value == Approx(ShiftBetween(Rows(images), Rows(base_images)).Frechet()));
  CHECK(score.stderr_ > 0);
  CHECK(ScoreOf({{"distance", "kid"}}, samples).value ==
        Approx(PolynomialMmd2(Rows(images), Rows(base_images), MmdEstimator::kUnpaired).value));
  CHECK(ScoreOf({{"resizing", "legacy"}}, samples).value != Approx(score.value));
  CHECK(ScoreOf({{"of", "target"}}, samples).n == 0);

  for (Sample& sample : samples) sample.image = sample.base_image;
  CHECK(ScoreOf({}, samples).value == 0);
  samples[0].blocked = true;
  samples[0].image = at::Tensor();
  const Score blocked = ScoreOf({}, samples);
  CHECK(blocked.n == 5);
  CHECK(blocked.parts.at("blocked") == 1);
}

TEST_CASE("fid: the distance to a folder's pictures, of any size") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "near", 6, 1);
  const std::filesystem::path folder = TestFolder("fid_reference"), few = TestFolder("fid_few");
  std::vector<at::Tensor> images, others;
  for (size_t i = 0; i < samples.size(); ++i) {
    images.push_back(samples[i].image);
    samples[i].base_image = at::Tensor();  // not asked for
    if (i == 5) continue;
    others.push_back(samples[i].image.flip(2).repeat({1, 1, 1 + static_cast<int64_t>(i % 2)}));
    WritePng(folder / fmt::format("{}.png", i), others.back());
  }
  const Score score = ScoreOf({{"reference", folder.string()}}, samples);
  CHECK(score.n == 6);
  CHECK(score.parts.at("reference") == 5);
  CHECK(score.value == Approx(ShiftBetween(Rows(images), Rows(others)).Frechet()));
  CHECK(score.stderr_ > 0);

  WritePng(few / "one.png", images[0]);
  CHECK_THROWS_WITH(ScoreOf({{"reference", few.string()}}, samples),
                    Contains("fid_few") && Contains("fewer than two pictures"));
}

TEST_CASE("fid: another network's file is refused") {
  CHECK_THROWS_WITH(
      FidInception(FormulaResNet(4), "resnet.safetensors"),
      Contains("resnet.safetensors") && Contains("Conv2d_1a_3x3") && Contains("convert_weights"));
}

}  // namespace excise
