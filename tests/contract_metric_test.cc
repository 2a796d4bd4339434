// The contract of a metric, run on each one alone.
#include <ATen/core/Tensor.h>
#include <ATen/ops/full_like.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/text.h"
#include "metrics/metric.h"
#include "models/tensors/safetensors.h"
#include "tests/contract_common.h"
#include "tests/imagenet_files.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

// Of one that reads a network of the user's: with narrow ones by a formula.
std::unique_ptr<Metric> Fresh() {
  static const auto file = [](const std::string& name, const StateDict& weights) {
    const std::filesystem::path made = TestFolder("contract_" + name) / (name + ".safetensors");
    SaveSafetensors(made, weights);
    return made.string();
  };
  static const std::map<std::string, std::function<StateDict()>> networks = {
      {"weights", [] { return FormulaInception(16); }},
      {"network", [] { return FormulaTrunk(false, 16); }}};
  std::unique_ptr<Metric> metric = Registry<Metric>::Get().Make(TheOnlyPlugin<Metric>());
  static const Json needs = [&] {
    Json given = Json::object();
    for (const std::string& field : metric->needs_one_of()) {
      given[field] = file(field, networks.at(field)());
    }
    if (given.contains("network")) given["heads"] = file("heads", FormulaHeads(false, 16));
    return given;
  }();
  DecodeParams(needs, *metric, "contract test");
  return metric;
}

void CheckSame(const Score& a, const Score& b) {
  CHECK(a.value == b.value);
  CHECK(a.stderr_ == b.stderr_);
  CHECK(a.low == b.low);
  CHECK(a.high == b.high);
  CHECK(a.n == b.n);
  CHECK(a.parts == b.parts);
  CHECK(a.per_sample == b.per_sample);
  CHECK(a.sample_ids == b.sample_ids);
}

// Samples of every group that the metric reads, two replicates each.
std::vector<Sample> SamplesFor(const Metric& metric, const Concept& subject) {
  std::vector<Sample> samples;
  for (const std::string& group : metric.traits().sample_groups) {
    const std::vector<Sample> more = TinySamples(subject, group, 5, 2);
    samples.insert(samples.end(), more.begin(), more.end());
  }
  return samples;
}

// What a metric must leave as it is.
StateDict ImagesOf(const std::vector<Sample>& samples) {
  StateDict images;
  for (size_t i = 0; i < samples.size(); ++i) {
    images.Set(std::to_string(i), samples[i].image);
    images.Set(std::to_string(i) + "/base", samples[i].base_image);
  }
  return images;
}

// A way in which a sample cannot be drawn or read.
struct Fault {
  std::string name;
  std::function<void(Sample*)> break_it;
  bool of_pictures = true;  // metrics that read embeddings are not touched
};

std::vector<Fault> Faults() {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto no_picture = [](Sample* sample) { sample->image = sample->drawn = at::Tensor(); };
  return {
      {"a picture is missing, and nobody judged it",
       [=](Sample* sample) {
         no_picture(sample);
         sample->verdict = {};
         sample->detections.clear();
       }},
      {"a picture is missing, and the judge said what is wanted",
       [=](Sample* sample) {
         no_picture(sample);
         sample->verdict.class_id = sample->group == "target" ? "dog" : "poodle";
       }},
      {"a picture is missing, and the judge saw the target",
       [=](Sample* sample) {
         no_picture(sample);
         sample->verdict.class_id = "poodle";
       }},
      {"a detector's word is NaN",
       [](Sample* sample) {
         for (auto& [name, said] : sample->detections) said.score = kNan;
       }},
      {"the unmodified model's picture is missing",
       [](Sample* sample) { sample->base_image = at::Tensor(); }},
      {"embeddings are missing", [](Sample* sample) { sample->embeddings = at::Tensor(); }, false},
      {"embeddings are NaN",
       [](Sample* sample) {
         if (!sample->embeddings.defined()) return;
         sample->embeddings = at::full_like(sample->embeddings, kNan);
       },
       false},
  };
}

}  // namespace

TEST_CASE("parameters, card and traits are sound") {
  CheckParams<Metric>();
  CheckCard<Metric>();
  const MetricTraits traits = Fresh()->traits();
  const std::vector<std::string> groups = {"erasure",   "filter",  "retrieval",
                                           "retention", "quality", "cost"};
  CHECK_FALSE(traits.unit.empty());
  CHECK(IsOneOf(traits.group, groups));
  CHECK_FALSE(traits.sample_groups.empty());
  CHECK(traits.decimals >= 0);
  CHECK(traits.decimals <= 6);
  for (const std::string& model : traits.models) {
    CHECK(IsOneOf(model, {"judge", "reference_clip", "base_clip", "independent_clip"}));
  }
}

namespace {

// Nothing that the metric does not declare, as in a run.
MetricModels DeclaredModels(const ClipModel& clip) {
  const std::vector<std::string> declared = Fresh()->traits().models;
  MetricModels models;
  if (IsOneOf("reference_clip", declared)) models.reference_clip = &clip;
  if (IsOneOf("base_clip", declared)) models.base_clip = &clip;
  if (IsOneOf("independent_clip", declared)) models.independent_clip = &clip;
  return models;
}

}  // namespace

TEST_CASE("merging equals updating on the whole, in any split and order") {
  const Concept subject = TinyConcept();
  const ClipModel clip = TinyClip();
  const MetricModels models = DeclaredModels(clip);
  const std::vector<Sample> samples = SamplesFor(*Fresh(), subject);
  const std::string before = DigestOf(ImagesOf(samples));
  const std::unique_ptr<Metric> whole = Fresh();
  whole->Update(models, samples);
  const Score expected = whole->Compute();
  CheckSame(whole->Compute(), expected);  // asking changes nothing
  CHECK(DigestOf(ImagesOf(samples)) == before);
  REQUIRE(expected.n > 0);
  CHECK(std::isfinite(expected.value));
  CHECK(expected.low <= expected.value);
  CHECK(expected.value <= expected.high);

  for (const size_t cut : {size_t{1}, samples.size() / 2, samples.size() - 1}) {
    INFO("cut " << cut);
    const std::unique_ptr<Metric> front = Fresh(), back = Fresh();
    front->Update(models, {samples.begin(), samples.begin() + cut});
    back->Update(models, {samples.begin() + cut, samples.end()});
    back->Merge(*front);  // the later part first
    CheckSame(back->Compute(), expected);
  }
  const std::unique_ptr<Metric> singly = Fresh();
  for (auto it = samples.rbegin(); it != samples.rend(); ++it) singly->Update(models, {*it});
  CheckSame(singly->Compute(), expected);

  // The same sample twice would count twice.
  CHECK_THROWS_AS(whole->Update(models, {samples[0]}), Error);
  const std::unique_ptr<Metric> same = Fresh();
  same->Update(models, {samples[0]});
  CHECK_THROWS_AS(singly->Merge(*same), Error);
}

TEST_CASE("an error is never a success: a sample with a fault counts nowhere, or is an error") {
  const Concept subject = TinyConcept();
  const ClipModel clip = TinyClip();
  const MetricModels models = DeclaredModels(clip);
  const std::vector<Sample> whole = SamplesFor(*Fresh(), subject);
  const auto score_of = [&](const std::vector<Sample>& samples) {
    const std::unique_ptr<Metric> metric = Fresh();
    metric->Update(models, samples);
    Score score = metric->Compute();
    score.parts.erase("error");  // the share of these samples
    return score;
  };
  // Every fourth sample: of each group, and with each verdict.
  std::vector<Sample> rest;
  for (size_t i = 0; i < whole.size(); ++i) {
    if (i % 4 != 0) rest.push_back(whole[i]);
  }
  const bool embedded = Fresh()->traits().group == "retrieval";
  for (const Fault& fault : Faults()) {
    INFO(fault.name);
    std::vector<Sample> samples = whole;
    for (size_t i = 0; i < samples.size(); i += 4) fault.break_it(&samples[i]);
    Score score;
    try {
      score = score_of(samples);
    } catch (const std::exception&) {
      continue;  // an error of the record
    }
    if (!std::isfinite(score.value)) continue;  // which the pipeline makes an error of the record
    const bool touched = embedded != fault.of_pictures;
    const Score others = score_of(rest), untouched = score_of(whole);
    const bool counts_nowhere =
        score.value == others.value && score.sample_ids == others.sample_ids;
    const bool not_read = score.value == untouched.value && score.parts == untouched.parts;
    if (fault.name.find("a picture is missing") == 0 && touched) {
      CheckSame(score, others);
    } else {
      CHECK((counts_nowhere || not_read));
    }
  }
}

TEST_CASE("samples of other groups are not read, and no sample gives n = 0") {
  const Concept subject = TinyConcept();
  const ClipModel clip = TinyClip();
  const MetricModels models = DeclaredModels(clip);
  const std::unique_ptr<Metric> metric = Fresh();
  metric->Update(models, TinySamples(subject, "no_such_group", 3));
  metric->Merge(*Fresh());
  const Score score = metric->Compute();
  CHECK(score.n == 0);
  CHECK(score.value == 0);
  CHECK(score.per_sample.empty());
  CHECK(score.sample_ids.empty());
}

}  // namespace excise
