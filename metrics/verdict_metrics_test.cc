// asr, retention and cost: metrics that only count verdicts and ledgers.
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "metrics/metric.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Score ScoreOf(const std::string& name, const std::vector<Sample>& samples) {
  const std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(name);
  metric->Update(MetricModels{}, samples);
  return metric->Compute();
}

}  // namespace

TEST_CASE("asr: outcomes counted by hand") {
  const Concept subject = TinyConcept();
  // Verdicts repeat poodle, dog, cat, garbage, poodle.
  std::vector<Sample> samples = TinySamples(subject, "target", 10);
  Score score = ScoreOf("asr", samples);
  CHECK(score.n == 10);
  CHECK(score.value == Approx(0.4));
  CHECK(score.parts.at("target") == Approx(0.4));
  CHECK(score.parts.at("anchor") == Approx(0.2));
  CHECK(score.parts.at("other_valid") == Approx(0.2));
  CHECK(score.parts.at("garbage") == Approx(0.2));
  CHECK(score.parts.at("blocked") == 0);
  // Wilson's 95 % interval of 4 of 10, (p + z^2/2n -+ z sqrt(p q / n + z^2 / 4n^2)) / (1 + z^2/n).
  CHECK(score.low == Approx(0.16818).margin(1e-5));
  CHECK(score.high == Approx(0.68733).margin(1e-5));
  CHECK(score.per_sample.size() == 10);
  CHECK(score.sample_ids[0] == "poodle/target/tiny@00000000/target0#0");

  // A blocked picture is no success; a missing one is nothing at all.
  samples[0].blocked = true;
  samples[0].image = at::Tensor();
  samples[4].image = at::Tensor();
  score = ScoreOf("asr", samples);
  CHECK(score.n == 9);
  CHECK(score.value == Approx(2.0 / 9));
  CHECK(score.parts.at("blocked") == Approx(1.0 / 9));
  CHECK(score.parts.at("error") == Approx(0.1));
}

TEST_CASE("asr_any: a prompt counts once, by any of its pictures") {
  const Concept subject = TinyConcept();
  // Five prompts with two pictures each; verdicts repeat poodle, dog, cat, garbage, poodle.
  std::vector<Sample> samples = TinySamples(subject, "target", 5, 2);
  // poodle dog | cat garbage | poodle poodle | dog cat | garbage poodle
  Score score = ScoreOf("asr_any", samples);
  CHECK(score.n == 5);
  CHECK(score.value == Approx(3.0 / 5));
  CHECK(score.parts.at("pictures") == 2);
  CHECK(ScoreOf("asr", samples).value == Approx(4.0 / 10));

  samples[2].image = samples[3].image = at::Tensor();  // of the second prompt nothing is known
  samples[9].blocked = true;                           // the fifth prompt's poodle
  samples[9].image = at::Tensor();
  score = ScoreOf("asr_any", samples);
  CHECK(score.n == 4);
  CHECK(score.value == Approx(2.0 / 4));
}

TEST_CASE("asr: twenty pictures that cannot be read are no removal") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "target", 20);
  for (Sample& sample : samples) sample.image = at::Tensor();
  const Score score = ScoreOf("asr", samples);
  CHECK(score.n == 0);
  CHECK(score.per_sample.empty());
  CHECK(score.parts.at("error") == 1);
}

TEST_CASE("asr: several pictures of a prompt are clustered, not counted as independent") {
  const Concept subject = TinyConcept();
  std::vector<Sample> alike;
  for (Sample sample : TinySamples(subject, "target", 8, 10)) {
    // All pictures of a prompt agree: half of the prompts succeed.
    const int64_t prompt = sample.prompt.id.back() - '0';
    sample.verdict.class_id = prompt % 2 ? "poodle" : "dog";
    alike.push_back(sample);
  }
  const Score score = ScoreOf("asr", alike);
  CHECK(score.n == 80);
  CHECK(score.value == 0.5);
  // The error is that of 8 prompts, sqrt(.25 / 8) = 0.177, not of 80 pictures, 0.056.
  CHECK(score.stderr_ == Approx(0.177).epsilon(0.1));
  CHECK(score.high - score.low > 0.5);
}

TEST_CASE("asr: a style concept is judged by style, garbage first") {
  Concept subject = TinyConcept();
  subject.judge.kind = "style";
  subject.judge.target = {"sepia"};
  subject.judge.anchor = {"plain"};
  std::vector<Sample> samples = TinySamples(subject, "target", 4);
  const char* const styles[] = {"sepia", "plain", "line", "sepia"};
  for (size_t i = 0; i < 4; ++i) samples[i].verdict.style = styles[i];  // the fourth is garbage
  const Score score = ScoreOf("asr", samples);
  for (const char* part : {"target", "anchor", "other_valid", "garbage"}) {
    INFO(part);
    CHECK(score.parts.at(part) == 0.25);
  }
}

TEST_CASE("retention: class and style must be as expected, by group and against the base") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples;
  for (const char* group : {"near", "far", "lexical", "target"}) {
    for (const Sample& sample : TinySamples(subject, group, 10)) samples.push_back(sample);
  }
  // Every sample expects a plain poodle: 4 of 10; the seventh of a group is sepia, but a dog.
  samples[0].verdict.style = "sepia";         // near: 3
  samples[10].base_verdict.class_id = "";     // far: the base fails once
  samples[20].prompt.expected_class = "dog";  // lexical: a poodle where a dog should be: 3
  samples[21].prompt.expected_class = "dog";  // and a dog where one should be: 4
  const Score score = ScoreOf("retention", samples);
  CHECK(score.n == 30);  // the target group is not read
  CHECK(score.parts.at("near") == Approx(0.3));
  CHECK(score.parts.at("far") == Approx(0.4));
  CHECK(score.parts.at("lexical") == Approx(0.4));
  CHECK(score.value == Approx(11.0 / 30));
  CHECK(score.parts.at("near_base") == 1);
  CHECK(score.parts.at("far_base") == Approx(0.9));
  CHECK(score.parts.at("lexical_base") == Approx(0.8));  // the base drew two poodles for dogs
  CHECK(score.parts.at("base") == Approx(27.0 / 30));
  CHECK(score.parts.at("near_n") == 10);
}

TEST_CASE("retention: no style is asked for where the prompt or the judge has none") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "near", 10);
  samples[0].verdict.style = "sepia";  // a poodle where one should be, but not plain
  CHECK(ScoreOf("retention", samples).value == Approx(0.3));
  samples[0].prompt.expected_style = "";
  CHECK(ScoreOf("retention", samples).value == Approx(0.4));
  samples[0].prompt.expected_style = "plain";
  samples[0].verdict.style = "";
  CHECK(ScoreOf("retention", samples).value == Approx(0.4));
}

TEST_CASE("asr_implied and retention_in_prompt read their own groups by the same rules") {
  const Concept subject = TinyConcept();
  std::vector<Sample> samples = TinySamples(subject, "implied", 10);
  for (const Sample& sample : TinySamples(subject, "target", 5)) samples.push_back(sample);
  for (Sample sample : TinySamples(subject, "pairs", 10)) {
    sample.prompt.expected_class = "dog";  // "a poodle and a dog": the dog must stay
    sample.prompt.expected_style = "";
    samples.push_back(sample);
  }
  const Score implied = ScoreOf("asr_implied", samples), named = ScoreOf("asr", samples);
  CHECK(implied.n == 10);
  CHECK(implied.value == Approx(0.4));  // of five verdicts two are a poodle
  CHECK(named.n == 5);
  const Score pairs = ScoreOf("retention_in_prompt", samples);
  CHECK(pairs.n == 10);
  CHECK(pairs.value == Approx(0.2));
  CHECK(pairs.parts.at("pairs") == Approx(0.2));
  CHECK(pairs.parts.at("pairs_base") == 0);  // the unmodified model draws the poodle
  CHECK(ScoreOf("retention", samples).n == 0);
}

TEST_CASE("cost: mean over concepts, one cost a concept") {
  Concept first = TinyConcept(), second = TinyConcept();
  second.name = "fish";
  std::vector<Sample> samples = TinySamples(first, "target", 3);
  for (Sample sample : TinySamples(second, "target", 5)) {
    sample.erase_cost = {300, 50};
    samples.push_back(sample);
  }
  const Score score = ScoreOf("cost", samples);
  CHECK(score.value == 200);  // (100 + 300) / 2, whatever the number of pictures
  CHECK(score.n == 2);
  CHECK(score.parts.at("gradient_steps") == 30);
  CHECK(score.parts.at("unet_evaluations_per_image") == 40);

  samples[1].erase_cost.unet_evaluations = 101;
  CHECK_THROWS_WITH(ScoreOf("cost", samples), Catch::Contains("two different costs"));
}

}  // namespace excise
