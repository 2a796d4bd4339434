// concept_shift and image_similarity, the moments behind them, and detector_auroc.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cosine_similarity.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "metrics/frechet.h"
#include "metrics/metric.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Features FromJson(const Json& rows) {
  Features features;
  for (const Json& row : rows) {
    features.width = static_cast<int64_t>(row.size());
    for (const Json& value : row) features.values.push_back(value);
  }
  return features;
}

Score ScoreOf(const std::string& name, const Json& params, const std::vector<Sample>& samples) {
  const ClipModel clip = TinyClip();
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(name);
  DecodeParams(params, *metric, "test");
  MetricModels models;
  models.reference_clip = &clip;
  metric->Update(models, samples);
  return metric->Compute();
}

at::Tensor Embedding(const at::Tensor& image) {
  const ClipModel clip = TinyClip();
  const at::Tensor pixels =
      ClipPreprocess(clip.config.vision, image.to(at::kFloat).div(255).unsqueeze(0));
  return ClipImageEmbeds(clip.weights,
                         ClipVisionForward(clip.config.vision, clip.weights, pixels).pooler_output);
}

double Cosine(const Sample& sample) {
  return at::cosine_similarity(Embedding(sample.image), Embedding(sample.base_image))
      .item<double>();
}

at::Tensor Picture(const Json& values, const Json& shape) {
  std::vector<int64_t> pixels = values;
  return at::tensor(pixels).to(at::kByte).reshape(shape.get<std::vector<int64_t>>());
}

}  // namespace

TEST_CASE("frechet: two moments by hand") {
  // Means 1 and 3; variances 2 and 8: 2 + 8 - 2 sqrt(16) = 2.
  const MomentShift line = ShiftBetween({{0, 2}, 1}, {{1, 5}, 1});
  CHECK(line.mean == Approx(2));
  CHECK(line.covariance == Approx(2));
  CHECK(line.Frechet() == Approx(6));
  // Equal means; variance on one axis against variance on the other: nothing is shared.
  const MomentShift axes = ShiftBetween({{1, 0, -1, 0}, 2}, {{0, 1, 0, -1}, 2});
  CHECK(axes.mean == 0);
  CHECK(axes.covariance == Approx(4));
  CHECK(ShiftBetween({{1, 2, 3, 4}, 2}, {{1, 2, 3, 4}, 2}).Frechet() == 0);
  CHECK_THROWS_WITH(ShiftBetween({{1}, 1}, {{1, 2}, 1}), Catch::Contains("at least 2 rows"));
  CHECK_THROWS_AS(ShiftBetween({{1, 2}, 1}, {{1, 2, 3, 4}, 2}), Error);
}

TEST_CASE("frechet: as scipy's matrix root has it") {
  const Json cases = ReadJsonFile(RepoFile("tests/fixtures/frechet.json"));
  REQUIRE(cases.size() == 3);
  for (const Json& one : cases) {
    const MomentShift shift = ShiftBetween(FromJson(one.at("x")), FromJson(one.at("y")));
    CHECK(shift.mean == Approx(one.at("mean").get<double>()).margin(1e-10));
    CHECK(shift.covariance == Approx(one.at("covariance").get<double>()).margin(1e-6));
    const MomentShift back = ShiftBetween(FromJson(one.at("y")), FromJson(one.at("x")));
    CHECK(back.covariance == Approx(shift.covariance).margin(1e-9));
  }
}

TEST_CASE("concept_shift: pairs and moments of the reference CLIP's embeddings") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "near", 6);
  double pairs = 0;
  Features method, base;
  for (const Sample& sample : samples) {
    pairs += (1 - Cosine(sample)) / 6;
    for (const auto& [image, features] :
         {std::pair{sample.image, &method}, std::pair{sample.base_image, &base}}) {
      at::Tensor row = Embedding(image)[0].to(at::kDouble);
      row = row.div(row.norm()).contiguous();
      features->values.insert(features->values.end(), row.data_ptr<double>(),
                              row.data_ptr<double>() + 8);
      features->width = 8;
    }
  }
  const Score score = ScoreOf("concept_shift", Json::object(), samples);
  CHECK(score.value == Approx(pairs).margin(1e-5));
  CHECK(score.per_sample.size() == 6);
  const MomentShift shift = ShiftBetween(base, method);
  CHECK(score.parts.at("mean") == Approx(shift.mean).margin(1e-5));
  CHECK(score.parts.at("covariance") == Approx(shift.covariance).margin(1e-5));
  for (const char* moment : {"pairs", "mean", "covariance", "frechet"}) {
    INFO(moment);
    const Score chosen = ScoreOf("concept_shift", {{"moment", moment}}, samples);
    CHECK(chosen.value == score.parts.at(moment));
    CHECK(chosen.low == score.parts.at(std::string(moment) + "_low"));
    CHECK(chosen.low <= chosen.value);
    CHECK(chosen.value <= chosen.high);
    CHECK(chosen.low < chosen.high);
    CHECK(chosen.n == 6);
  }

  // A narrower question: innocent things of some classes.
  samples[1].prompt.expected_class = samples[4].prompt.expected_class = "red_apple";
  const Score red = ScoreOf("concept_shift", {{"only", {"red_apple", "rose"}}}, samples);
  CHECK(red.n == 2);
  CHECK(red.value == Approx((2 - Cosine(samples[1]) - Cosine(samples[4])) / 2).margin(1e-5));
  CHECK(ScoreOf("concept_shift", {{"only", {"rose"}}}, samples).n == 0);

  // One prompt has no spread over prompts: pairs alone.
  const std::vector<Sample> one = {samples[0]};
  CHECK(ScoreOf("concept_shift", Json::object(), one).n == 1);
  CHECK(ScoreOf("concept_shift", {{"moment", "mean"}}, one).n == 0);

  // A blocked picture counts as what the user gets; one that is not there is left out.
  std::vector<Sample> blocked = samples;
  blocked[0].blocked = true;
  blocked[0].drawn = blocked[0].image;
  blocked[0].image = at::Tensor();
  blocked[0].replacement = samples[0].base_image;
  CHECK(ScoreOf("concept_shift", Json::object(), blocked).value ==
        Approx(pairs - (1 - Cosine(samples[0])) / 6).margin(1e-5));
  blocked[0].replacement = at::Tensor();
  CHECK(ScoreOf("concept_shift", Json::object(), blocked).n == 5);
  CHECK(ScoreOf("concept_shift", Json::object(), blocked).parts.at("missing") == 1);

  for (Sample& sample : samples) sample.image = sample.base_image;
  const Score unmoved = ScoreOf("concept_shift", Json::object(), samples);
  for (const char* part : {"pairs", "mean", "covariance", "frechet", "frechet_high"}) {
    CHECK(unmoved.parts.at(part) == 0);
  }
}

TEST_CASE("image_similarity: cosine and structural similarity") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "near", 3);
  double cosine = 0;
  for (const Sample& sample : samples) cosine += Cosine(sample) / 3;
  CHECK(ScoreOf("image_similarity", Json::object(), samples).value == Approx(cosine).margin(1e-5));
  CHECK(ScoreOf("image_similarity", {{"of", "target"}}, samples).n == 0);
  CHECK(ScoreOf("image_similarity", {{"of", "target"}}, TinySamples(subject, "target", 2)).n == 2);

  const Json fixture = ReadJsonFile(RepoFile("tests/fixtures/ssim.json"));
  samples.resize(2);
  samples[0].image = Picture(fixture.at("x"), fixture.at("shape"));
  samples[0].base_image = Picture(fixture.at("y"), fixture.at("shape"));
  samples[1].image = samples[1].base_image;
  const Score ssim = ScoreOf("image_similarity", {{"measure", "ssim"}}, samples);
  CHECK(ssim.per_sample[0] == Approx(fixture.at("ssim").get<double>()).margin(1e-9));
  CHECK(ssim.per_sample[1] == 1);

  samples[1].image = at::Tensor();
  samples[1].blocked = true;
  CHECK(ScoreOf("image_similarity", {{"measure", "ssim"}}, samples).per_sample[1] == 0);
  samples[0].image = samples[0].image.narrow(1, 0, 8);
  samples[0].base_image = samples[0].base_image.narrow(1, 0, 8);
  CHECK_THROWS_WITH(ScoreOf("image_similarity", {{"measure", "ssim"}}, samples),
                    Catch::Contains("11 x 11"));
}

TEST_CASE("detector_auroc: a detector's name, groups and its own threshold") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "target", 2);
  const std::vector<Sample> near = TinySamples(subject, "near", 2);
  samples.insert(samples.end(), near.begin(), near.end());
  const double scores[] = {3, 2, 2, 1};
  for (size_t i = 0; i < 4; ++i) {
    samples[i].detections["text_detector"] = {scores[i], 2.5};
    samples[i].detections["latent_detector"] = {-scores[i], 0};
  }
  const auto compute = [&](const char* detector) {
    const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make("detector_auroc");
    DecodeParams({{"detector", detector}}, *metric, "test");
    metric->Update({}, samples);
    return metric->Compute();
  };
  const Score text = compute("text_detector");
  CHECK(text.value == 0.875);
  CHECK(text.n == 4);
  CHECK(text.parts.at("tpr") == 0.5);
  CHECK(text.parts.at("fpr") == 0);
  CHECK(compute("latent_detector").value == 0.125);
  CHECK(compute("no_such").n == 0);
}

}  // namespace excise
