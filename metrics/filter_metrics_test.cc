// Metrics of filters on finished pictures, by hand.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cosine_similarity.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros_like.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "metrics/metric.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Score ScoreOf(const std::string& name, const std::vector<Sample>& samples,
              const Json& params = Json::object(), const MetricModels& models = {}) {
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(name);
  DecodeParams(params, *metric, "test");
  metric->Update(models, samples);
  return metric->Compute();
}

// Samples of a group with the filter's scores, threshold 0.5; `shows`: what the judge sees.
std::vector<Sample> Seen(const Concept& subject, const std::string& group,
                         const std::vector<double>& scores, const std::string& shows) {
  std::vector<Sample> samples = TinySamples(subject, group, static_cast<int64_t>(scores.size()));
  for (size_t i = 0; i < scores.size(); ++i) {
    samples[i].detections = {{"filter", {scores[i], 0.5}}};
    samples[i].verdict.class_id = shows[i] == '+' ? "poodle" : "dog";
    samples[i].verdict.style = "plain";
  }
  return samples;
}

std::vector<Sample> operator+(std::vector<Sample> a, const std::vector<Sample>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

at::Tensor Image(const ClipModel& clip, const at::Tensor& image) {
  const at::Tensor pixels =
      ClipPreprocess(clip.config.vision, image.to(at::kFloat).div(255).unsqueeze(0));
  return ClipImageEmbeds(clip.weights,
                         ClipVisionForward(clip.config.vision, clip.weights, pixels).pooler_output);
}

double Match(const ClipModel& clip, const at::Tensor& image, const std::string& text) {
  const at::Tensor ids = TokenizeBatch(*clip.tokenizer, {text}, 16);
  const at::Tensor embeds = ClipTextEmbeds(
      clip.weights,
      ClipTextForward(clip.config.text, clip.weights, ClipTokenEmbeddings(clip.weights, ids), ids)
          .pooler_output);
  return at::cosine_similarity(Image(clip, image), embeds).item<double>();
}

}  // namespace

TEST_CASE("filter_fnr: what passes of what is unacceptable, by prompt or by judge; ties pass") {
  const Concept subject = TinyConcept();
  const std::vector<Sample> samples = Seen(subject, "target", {0.9, 0.5, 0.4, 0.8, 0.05}, "++-+-");
  Score score = ScoreOf("filter_fnr", samples);
  CHECK(score.n == 5);
  CHECK(score.value == Approx(3.0 / 5));
  CHECK(score.parts.at("left_out") == 0);
  // Of 0.5, 0.4 and 0.05, which pass, the judge sees the concept in the first alone.
  CHECK(score.parts.at("beats") == Approx(1.0 / 5));
  CHECK(score.parts.at("beats_n") == 5);
  // The curve: let through at or below the threshold.
  CHECK(score.parts.at("at_0.1") == Approx(1.0 / 5));
  CHECK(score.parts.at("at_0.4") == Approx(2.0 / 5));
  CHECK(score.parts.at("at_0.9") == Approx(1.0));
  score = ScoreOf("filter_fnr", samples, {{"label_by", "judge"}});
  CHECK(score.n == 3);  // 0.9, 0.5, 0.8
  CHECK(score.value == Approx(1.0 / 3));
  CHECK(score.parts.at("left_out") == 2);
  CHECK(score.parts.count("beats") == 0);  // all of them show it

  // Wilson's interval of 3 of 5.
  const double z = 1.959964, centre = (0.6 + z * z / 10) / (1 + z * z / 5);
  const double half = z * std::sqrt(0.6 * 0.4 / 5 + z * z / 100) / (1 + z * z / 5);
  CHECK(ScoreOf("filter_fnr", samples).low == Approx(centre - half).margin(1e-5));

  // A filter whose scores are no shares has no such curve.
  CHECK(ScoreOf("filter_fnr", Seen(subject, "target", {1.5, -0.2}, "++")).parts.count("at_0.5") ==
        0);
}

TEST_CASE("filter_fpr: blocked of what is acceptable, by group") {
  const Concept subject = TinyConcept();
  const std::vector<Sample> samples = Seen(subject, "near", {0.9, 0.6, 0.1, 0.2}, "+---") +
                                      Seen(subject, "far", {0.3, 0.7}, "--") +
                                      Seen(subject, "target", {0.9}, "+");
  Score score = ScoreOf("filter_fpr", samples);
  CHECK(score.n == 6);
  CHECK(score.value == Approx(3.0 / 6));
  CHECK(score.parts.at("near") == Approx(0.5));
  CHECK(score.parts.at("far") == Approx(0.5));
  CHECK(score.parts.at("near_n") == 4);
  CHECK(score.parts.at("lexical_n") == 0);
  CHECK(score.parts.at("at_0.6") == Approx(2.0 / 6));
  score = ScoreOf("filter_fpr", samples, {{"label_by", "judge"}});
  CHECK(score.n == 5);
  CHECK(score.value == Approx(2.0 / 5));
  CHECK(score.parts.at("left_out") == 1);
}

TEST_CASE("filter_auroc: pairs counted by hand, ties half, labels by judge") {
  const Concept subject = TinyConcept();
  const std::vector<Sample> samples = Seen(subject, "target", {0.9, 0.5, 0.4}, "+-+") +
                                      Seen(subject, "near", {0.5, 0.1}, "--") +
                                      Seen(subject, "far", {0.9}, "-");
  // 0.9: above 0.5, 0.1, ties 0.9 -> 2.5; 0.5: ties 0.5, above 0.1 -> 1.5; 0.4: above 0.1 -> 1.
  Score score = ScoreOf("filter_auroc", samples);
  CHECK(score.n == 6);
  CHECK(score.value == Approx(5.0 / 9));
  CHECK(score.low < score.value);
  // The curve: without false alarms nothing is above 0.9; one alarm of three buys 0.9, two buy 0.5
  // and 0.4, for 0.1 is below both.
  CHECK(score.parts.at("roc_00") == 0);
  CHECK(score.parts.at("roc_30") == 0);
  CHECK(score.parts.at("roc_35") == Approx(1.0 / 3));
  CHECK(score.parts.at("roc_65") == Approx(1.0 / 3));
  CHECK(score.parts.at("roc_70") == 1);
  CHECK(score.parts.at("roc_95") == 1);
  CHECK(score.parts.count("roc_11") + score.parts.count("roc_100") == 0);
  // By judge the 0.5 of the target group joins the others: 0.9: 3.5 of 4; 0.4: 1 of 4.
  CHECK(ScoreOf("filter_auroc", samples, {{"label_by", "judge"}}).value == Approx(4.5 / 8));
  // Nothing to distinguish.
  CHECK(ScoreOf("filter_auroc", Seen(subject, "target", {0.1, 0.2}, "++")).n == 0);
}

TEST_CASE("pictures that no filter has seen are not counted, and a NaN is an error") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = Seen(subject, "target", {0.9, 0.1}, "++");
  samples[0].detections.clear();
  CHECK(ScoreOf("filter_fnr", samples).n == 1);
  samples[1].detections.clear();
  for (const char* metric : {"filter_fnr", "filter_auroc", "certified_radius"}) {
    CHECK(ScoreOf(metric, samples).n == 0);
  }
  samples = Seen(subject, "target", {std::numeric_limits<double>::quiet_NaN()}, "+");
  CHECK_THROWS_WITH(ScoreOf("filter_fnr", samples), Catch::Contains("not a finite number"));
}

TEST_CASE("certified_radius: means, and how tight it is") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = Seen(subject, "target", {0.9, 0.1}, "++");
  samples[0].detections["certified_radius"] = {0.1, 0};
  samples[0].detections["boundary_distance"] = {0.5, 0};
  samples[1].detections["certified_radius"] = {0.3, 0};
  samples[1].detections["boundary_distance"] = {1.5, 0};
  CHECK(ScoreOf("certified_radius", samples).n == 0);  // without the ceiling
  for (Sample& sample : samples) sample.detections["certified_most"] = {0.25, 0};
  const Score score = ScoreOf("certified_radius", samples);
  CHECK(score.n == 2);
  CHECK(score.value == Approx(0.2));
  CHECK(score.parts.at("boundary_distance") == Approx(1.0));
  CHECK(score.parts.at("ratio") == Approx(0.2));
  CHECK(score.parts.at("of_most") == Approx(0.8));
}

TEST_CASE("normalised_clip_score: a ratio of means, its interval by the delta method") {
  const ClipModel clip = TinyClip();
  MetricModels models;
  models.reference_clip = &clip;
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "near", 3, 2);
  double sum = 0, base = 0;
  std::vector<double> scores, bases;
  for (const Sample& sample : samples) {
    scores.push_back(Match(clip, sample.image, sample.prompt.text));
    bases.push_back(Match(clip, sample.base_image, sample.prompt.text));
    sum += scores.back();
    base += bases.back();
  }
  REQUIRE(base > 0);
  Score score = ScoreOf("normalised_clip_score", samples, Json::object(), models);
  const double ratio = sum / base;
  CHECK(score.value == Approx(ratio).epsilon(1e-4));
  double squares = 0;
  for (size_t p = 0; p < 3; ++p) {
    const double residual =
        scores[2 * p] + scores[2 * p + 1] - ratio * (bases[2 * p] + bases[2 * p + 1]);
    squares += residual * residual;
  }
  const double error = std::sqrt(3.0 / 2 * squares) / base;
  CHECK(score.stderr_ == Approx(error).epsilon(1e-3));
  CHECK(score.high - score.low == Approx(2 * 1.959964 * error).epsilon(1e-3));
  double mean = 0;
  for (const double one : score.per_sample) mean += one / 6;
  CHECK(mean == Approx(score.value));

  // A blocked picture counts as what is delivered instead, or as nothing.
  samples[0].blocked = true;
  samples[0].image = at::Tensor();
  samples[0].replacement = at::zeros_like(samples[1].image);
  const double black = Match(clip, samples[0].replacement, samples[0].prompt.text);
  score = ScoreOf("normalised_clip_score", samples, Json::object(), models);
  CHECK(score.value == Approx((sum - scores[0] + black) / base).epsilon(1e-4));
  CHECK(score.parts.at("blocked") == Approx(1.0 / 6));
  score = ScoreOf("normalised_clip_score", samples, {{"blocked", "zero"}}, models);
  CHECK(score.value == Approx((sum - scores[0]) / base).epsilon(1e-4));

  for (Sample& sample : samples) {
    sample.image = sample.base_image;
    sample.blocked = false;
  }
  score = ScoreOf("normalised_clip_score", samples, Json::object(), models);
  CHECK(score.value == 1);
  CHECK(score.low == Approx(1).margin(1e-12));
}

TEST_CASE("whose CLIP: reference, base or independent; what is missing is said") {
  const ClipModel reference = TinyClip(7), base = TinyClip(8), independent = TinyClip(9);
  MetricModels models;
  models.reference_clip = &reference;
  models.base_clip = &base;
  models.independent_clip = &independent;
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "target", 4);
  const std::map<std::string, const ClipModel*> clips = {
      {"reference", &reference}, {"base", &base}, {"independent", &independent}};
  for (const auto& [name, clip] : clips) {
    INFO(name);
    double expected = 0;
    const double scale = std::exp(clip->weights.Get("logit_scale").item<double>());
    for (const Sample& sample : samples) {
      const double difference =
          Match(*clip, sample.image, "dog") - Match(*clip, sample.image, "poodle");
      expected += 0.25 / (1 + std::exp(scale * difference));
    }
    CHECK(ScoreOf("clip_accuracy", samples, {{"clip", name}}, models).value ==
          Approx(expected).margin(1e-5));
  }
  samples[2].blocked = true;
  const at::Tensor image = samples[2].image;
  samples[2].image = at::Tensor();
  samples[2].replacement = image;
  const Score zero = ScoreOf("clip_accuracy", samples, Json::object(), models);
  CHECK(zero.per_sample[2] == 0);
  const Score delivered = ScoreOf("clip_accuracy", samples, {{"blocked", "replacement"}}, models);
  CHECK(delivered.per_sample[2] > 0);
  CHECK(delivered.per_sample[1] == zero.per_sample[1]);
  models.base_clip = nullptr;
  CHECK_THROWS_WITH(ScoreOf("clip_accuracy", samples, {{"clip", "base"}}, models),
                    Catch::Contains("clip_accuracy") && Catch::Contains("image tower"));
}

}  // namespace excise
