// clip_accuracy, clip_score and kid: metrics on a reference CLIP's embeddings.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cosine_similarity.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "metrics/kernel_distance.h"
#include "metrics/metric.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Score ScoreOf(const std::string& name, const Json& params, const ClipModel* clip,
              const std::vector<Sample>& samples) {
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(name);
  DecodeParams(params, *metric, "test");
  MetricModels models;
  models.reference_clip = clip;
  metric->Update(models, samples);
  return metric->Compute();
}

at::Tensor Image(const ClipModel& clip, const at::Tensor& image) {
  const at::Tensor pixels =
      ClipPreprocess(clip.config.vision, image.to(at::kFloat).div(255).unsqueeze(0));
  return ClipImageEmbeds(clip.weights,
                         ClipVisionForward(clip.config.vision, clip.weights, pixels).pooler_output);
}

at::Tensor Text(const ClipModel& clip, const std::string& text) {
  const at::Tensor ids = TokenizeBatch(*clip.tokenizer, {text}, 16);
  return ClipTextEmbeds(clip.weights, ClipTextForward(clip.config.text, clip.weights,
                                                      ClipTokenEmbeddings(clip.weights, ids), ids)
                                          .pooler_output);
}

double Cosine(const at::Tensor& a, const at::Tensor& b) {
  return at::cosine_similarity(a, b).item<double>();
}

}  // namespace

TEST_CASE("clip_accuracy: the softmax of two scaled cosines") {
  ClipModel clip = TinyClip();
  Concept subject = TinyConcept();
  const std::vector<Sample> samples = TinySamples(subject, "target", 6);
  for (const double scale : {1.0, std::log(100.0)}) {
    clip.weights.Set("logit_scale", at::scalar_tensor(scale));
    double expected = 0, above = 0;
    for (const Sample& sample : samples) {
      const at::Tensor image = Image(clip, sample.image);
      const double target = std::exp(std::exp(scale) * Cosine(image, Text(clip, "poodle")));
      const double anchor = std::exp(std::exp(scale) * Cosine(image, Text(clip, "dog")));
      expected += target / (target + anchor) / 6;
      above += (target > anchor) / 6.0;
    }
    CHECK(ScoreOf("clip_accuracy", Json::object(), &clip, samples).value ==
          Approx(expected).margin(1e-5));
    CHECK(ScoreOf("clip_accuracy", {{"mode", "argmax"}}, &clip, samples).value == Approx(above));
  }
  const double there = ScoreOf("clip_accuracy", Json::object(), &clip, samples).value;
  std::swap(subject.known[0], subject.anchor);
  const double back = ScoreOf("clip_accuracy", Json::object(), &clip, samples).value;
  CHECK(there + back == Approx(1).margin(1e-6));

  // Of several names the best one counts; the anchor among them makes every share at least 1/2.
  subject.known = {"poodle", subject.anchor};
  for (const double share : ScoreOf("clip_accuracy", Json::object(), &clip, samples).per_sample) {
    CHECK(share >= 0.5);
  }
  CHECK_THROWS_WITH(ScoreOf("clip_accuracy", Json::object(), nullptr, samples),
                    Catch::Contains("reference CLIP"));
}

TEST_CASE("clip_score: 100 cos, and its ratio to the base's") {
  const ClipModel clip = TinyClip();
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "near", 4);
  samples[1].prompt.text = "a cat";
  double expected = 0, base = 0;
  for (const Sample& sample : samples) {
    const at::Tensor text = Text(clip, sample.prompt.text);
    expected += 25 * Cosine(Image(clip, sample.image), text);
    base += 25 * Cosine(Image(clip, sample.base_image), text);
  }
  const Score score = ScoreOf("clip_score", Json::object(), &clip, samples);
  CHECK(score.value == Approx(expected).margin(1e-3));
  CHECK(score.parts.at("base") == Approx(base).margin(1e-3));
  CHECK(score.parts.at("normalised") == Approx(expected / base).epsilon(1e-3));

  for (Sample& sample : samples) sample.image = sample.base_image;
  CHECK(ScoreOf("clip_score", Json::object(), &clip, samples).parts.at("normalised") == 1);
}

TEST_CASE("kid: embeddings of length sqrt(d), 0 for the unmodified model, subsets") {
  const ClipModel clip = TinyClip();
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "far", 6);
  Features method, base;
  for (const Sample& sample : samples) {
    for (const auto& [image, features] :
         {std::pair{sample.image, &method}, std::pair{sample.base_image, &base}}) {
      at::Tensor row = Image(clip, image)[0].to(at::kDouble);
      row = row.mul(std::sqrt(8.0) / row.norm().item<double>()).contiguous();
      features->values.insert(features->values.end(), row.data_ptr<double>(),
                              row.data_ptr<double>() + 8);
      features->width = 8;
    }
  }
  const Score score = ScoreOf("kid", Json::object(), &clip, samples);
  const Mmd expected = PolynomialMmd2(method, base, MmdEstimator::kPaired);
  CHECK(score.value == Approx(expected.value).margin(1e-5));
  CHECK(score.stderr_ == Approx(expected.stderr_).margin(1e-5));
  CHECK(score.n == 6);
  // A subset of everything is everything, whatever the order.
  const Score subsets = ScoreOf("kid", {{"subsets", 3}, {"subset_size", 6}}, &clip, samples);
  CHECK(subsets.value == Approx(score.value).margin(1e-9));
  CHECK(subsets.stderr_ == Approx(0).margin(1e-9));
  // Smaller ones differ among themselves.
  CHECK(ScoreOf("kid", {{"subsets", 5}, {"subset_size", 3}}, &clip, samples).stderr_ > 0);

  for (Sample& sample : samples) sample.image = sample.base_image;
  CHECK(ScoreOf("kid", Json::object(), &clip, samples).value == 0);
  samples[0].blocked = true;
  CHECK(ScoreOf("kid", Json::object(), &clip, samples).n == 5);
  CHECK(ScoreOf("kid", Json::object(), &clip, {samples[1]}).n == 0);
}

}  // namespace excise
