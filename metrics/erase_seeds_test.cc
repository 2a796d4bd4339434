// Samples of several edits of one row (erase seeds): further samples of the same prompts, no
// further prompts.
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "metrics/metric.h"
#include "metrics/sample_table.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Score ScoreOf(const std::string& name, const ClipModel* clip, const std::vector<Sample>& samples) {
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(name);
  MetricModels models;
  models.reference_clip = clip;
  metric->Update(models, samples);
  return metric->Compute();
}

std::vector<Sample> OfEdit(std::vector<Sample> samples, int64_t seed) {
  for (Sample& sample : samples) sample.erase_seed = seed;
  return samples;
}

std::vector<Sample> Joined(std::vector<Sample> first, const std::vector<Sample>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

}  // namespace

TEST_CASE("an id names the edit behind the replicate, where there are several") {
  const Concept subject = TinyConcept();
  Sample sample = TinySamples(subject, "near", 1)[0];
  const std::string plain = SampleId(sample);
  CHECK(plain == "poodle/near/tiny@00000000/near0#0");
  sample.erase_seed = 12;
  const std::string edit = SampleId(sample);
  CHECK(edit == plain + "@12");
  CHECK(PromptOfId(edit) == PromptOfId(plain));
  CHECK(EditOfId(edit) == "@12");
  CHECK(EditOfId(plain).empty());  // the "@" of the data set is none
  CHECK(WithoutEdit(edit) == plain);
  CHECK(WithoutEdit(plain) == plain);
  CHECK(EditOfId("no id").empty());
}

TEST_CASE("edits are clustered by prompt: agreeing ones make no interval narrower") {
  const Concept subject = TinyConcept();
  const std::vector<Sample> once = TinySamples(subject, "target", 20);
  const Score two = ScoreOf("asr", nullptr, Joined(OfEdit(once, 1), OfEdit(once, 2)));
  const Score one = ScoreOf("asr", nullptr, once);
  CHECK(two.n == 40);
  CHECK(two.value == Approx(one.value));
  // Of prompts that agree the bootstrap's error is that of single pictures.
  CHECK(two.stderr_ == Approx(one.stderr_).epsilon(0.1));
  CHECK_THROWS_AS(ScoreOf("asr", nullptr, Joined(OfEdit(once, 1), OfEdit(once, 1))), Error);
}

TEST_CASE("kid of two edits is the mean of theirs, for both share the unmodified pictures") {
  const ClipModel clip = TinyClip();
  const Concept subject = TinyConcept();
  const std::vector<Sample> first = TinySamples(subject, "near", 6);
  std::vector<Sample> second = first;
  for (size_t i = 0; i < second.size(); ++i) second[i].image = first[i].image.bitwise_xor(255);
  const Score a = ScoreOf("kid", &clip, first), b = ScoreOf("kid", &clip, second);
  REQUIRE(std::fabs(a.value - b.value) > 1e-9);
  std::vector<Sample> both = Joined(OfEdit(first, 1), OfEdit(second, 2));
  const Score joint = ScoreOf("kid", &clip, both);
  CHECK(joint.value == Approx((a.value + b.value) / 2));
  CHECK(joint.stderr_ == Approx((a.stderr_ + b.stderr_) / 2));
  CHECK(joint.n == 12);
  CHECK(joint.parts.at("blocked") == 0);
  both[7].blocked = true;
  both[7].image = at::Tensor();
  CHECK(ScoreOf("kid", &clip, both).parts.at("blocked") == 1);
  CHECK(ScoreOf("kid", &clip, both).n == 11);
}

TEST_CASE("clip_score says what share of the pictures were blocked and count 0") {
  const ClipModel clip = TinyClip();
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "far", 4);
  const Score all = ScoreOf("clip_score", &clip, samples);
  CHECK(all.parts.at("blocked") == 0);
  samples[1].blocked = true;
  samples[1].image = at::Tensor();
  const Score some = ScoreOf("clip_score", &clip, samples);
  CHECK(some.parts.at("blocked") == Approx(0.25));
  CHECK(some.n == 4);
  CHECK(some.value == Approx(all.value - all.per_sample[1] / 4));
}

TEST_CASE("edits may cost differently; one edit has one cost") {
  const Concept subject = TinyConcept();
  std::vector<Sample> first = OfEdit(TinySamples(subject, "target", 2), 1);
  std::vector<Sample> second = OfEdit(TinySamples(subject, "target", 2), 2);
  for (Sample& sample : second) sample.erase_cost = {300, 30};
  const Score score = ScoreOf("cost", nullptr, Joined(first, second));
  CHECK(score.value == Approx(200));  // of 100 and 300
  CHECK(score.parts.at("gradient_steps") == Approx(20));
  CHECK(score.n == 2);
  second[0].erase_cost = {301, 30};
  CHECK_THROWS_AS(ScoreOf("cost", nullptr, second), Error);
}

}  // namespace excise
