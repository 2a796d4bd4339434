#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "core/json.h"
#include "methods/method.h"
#include "models/tensors/autograd.h"
#include "tests/gradient_check.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

std::unique_ptr<Method> Sld(const Json& params) {
  std::unique_ptr<Method> method = Registry<Method>::Get().Make("sld");
  DecodeParams(params, *method, "test");
  return method;
}

std::shared_ptr<const Hooks> HooksOf(const Json& params, const Backbone& base = TinyBackbone(),
                                     const std::vector<Concept>& concepts = {TinyConcept()}) {
  TinyContext context;
  return Sld(params)->Erase(context, base, concepts).hooks;
}

at::Tensor States(const Backbone& base, const std::vector<std::string>& texts) {
  return EncodeText(base, TokenizeBatch(*base.tokenizer, texts, 16));
}

GuidanceBatch Batch(const Backbone& base, int64_t steps, double guidance = 3) {
  GuidanceBatch batch;
  batch.prompt_states = States(base, {"a picture of a poodle", "a picture of a cat"});
  batch.empty_states = States(base, {"", ""});
  batch.guidance_scale = guidance;
  batch.num_steps = steps;
  return batch;
}

double Distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// tests/fixtures/sld.json, made by tools/sld_reference.py.
struct Reference {
  Json json = ReadJsonFile(RepoFile("tests/fixtures/sld.json"));
  int64_t steps = static_cast<int64_t>(json["predictions"].size());

  static at::Tensor Pictures(const Json& pictures) {
    std::vector<at::Tensor> rows;
    for (const Json& picture : pictures) {
      rows.push_back(at::tensor(picture.get<std::vector<double>>()).reshape({1, 2, 2, 2}));
    }
    return at::cat(rows);
  }
  std::vector<at::Tensor> Predictions(int64_t step) const {
    std::vector<at::Tensor> streams;
    for (const Json& stream : json["predictions"][step]) streams.push_back(Pictures(stream));
    return streams;
  }
  Json Params(const Json& of) const {
    return {{"scale", of["scale"]},
            {"threshold", of["threshold"]},
            {"momentum", of["momentum"]},
            {"beta", of["beta"]},
            {"warmup", of["delta"].get<double>() / static_cast<double>(steps)}};
  }
};

// What a run makes of the reference's predictions, all steps; `rows`: the pictures, in this order.
std::vector<at::Tensor> Combine(const Hooks& hooks, const Reference& reference,
                                const std::vector<int64_t>& rows) {
  GuidanceBatch batch = Batch(TinyBackbone(), reference.steps, reference.json["guidance"]);
  const std::unique_ptr<HookRun> run = hooks.Start(batch);
  std::vector<at::Tensor> combined;
  for (int64_t step = 0; step < reference.steps; ++step) {
    std::vector<at::Tensor> streams;
    for (const at::Tensor& stream : reference.Predictions(step)) {
      streams.push_back(stream.index_select(0, at::tensor(rows, at::kLong)));
    }
    // Steps that nothing is read for get two streams.
    streams.resize(run->Rows(batch, step).size());
    combined.push_back(run->Combine(batch, step, streams));
  }
  return combined;
}

}  // namespace

TEST_CASE("sld: guidance of several steps is the reference's, for every strength") {
  const Reference reference;
  for (const Json& of : reference.json["cases"]) {
    const auto name = of["name"].get<std::string>();
    const std::vector<at::Tensor> combined =
        Combine(*HooksOf(reference.Params(of)), reference, {0, 1});
    for (int64_t step = 0; step < reference.steps; ++step) {
      INFO(name << ", step " << step);
      CHECK(Distance(combined[step], Reference::Pictures(of["combined"][step])) < 1e-12);
    }
    // The published strengths are the reference's, with warm-ups in steps of 50.
    const std::map<std::string, double> deltas = {
        {"weak", 15}, {"medium", 10}, {"strong", 7}, {"max", 0}};
    if (deltas.count(name) == 0) continue;
    const Json preset = Sld(Json::object())->presets().at(name);
    for (const char* field : {"scale", "threshold", "momentum", "beta"}) {
      INFO(name << "." << field);
      CHECK(preset[field] == of[field]);
    }
    CHECK(preset["warmup"].get<double>() * 50 == Approx(deltas.at(name)));
  }
  CHECK(reference.json["cases"].size() == 5);
}

TEST_CASE("sld: momentum is each picture's own and begins anew with every run") {
  const Reference reference;
  const auto hooks = HooksOf({{"warmup", 0.3}, {"threshold", 0.025}, {"momentum", 0.9}});
  const std::vector<at::Tensor> both = Combine(*hooks, reference, {0, 1});
  const std::vector<at::Tensor> again = Combine(*hooks, reference, {0, 1});
  const std::vector<at::Tensor> swapped = Combine(*hooks, reference, {1, 0});
  const std::vector<at::Tensor> alone = Combine(*hooks, reference, {1});
  for (size_t step = 0; step < both.size(); ++step) {
    INFO("step " << step);
    CHECK(again[step].equal(both[step]));
    CHECK(swapped[step][0].equal(both[step][1]));
    CHECK(swapped[step][1].equal(both[step][0]));
    CHECK(alone[step][0].equal(both[step][1]));
  }
}

TEST_CASE("sld: at no strength, or in warm-up throughout, it is plain guidance bit for bit") {
  const NoGrad no_grad;
  const Backbone base = TinyBackbone();
  const GuidanceBatch batch = Batch(base, 5);
  const at::Tensor noise = SineTensor({2, 4, 8, 8}, 3, at::kFloat);
  SamplerSpec spec;
  spec.steps = 5;
  const auto draw = [&](const Hooks* hooks, int64_t* evaluations) {
    return SampleLatents(base, hooks, batch.prompt_states, batch.empty_states, noise, spec,
                         evaluations);
  };
  int64_t plain = 0;
  const at::Tensor expected = draw(nullptr, &plain);
  for (const Json& params : {Json{{"scale", 0}, {"warmup", 0}}, Json{{"warmup", 1}}}) {
    INFO(params.dump());
    int64_t evaluations = 0;
    CHECK(draw(HooksOf(params, base).get(), &evaluations).equal(expected));
    CHECK(evaluations == plain);
  }
  // Two of five steps warm up: they read the text only where momentum remembers it.
  const auto rows = [&](const Json& params) {
    int64_t evaluations = 0;
    CHECK_FALSE(draw(HooksOf(params, base).get(), &evaluations).equal(expected));
    return evaluations;
  };
  CHECK(rows({{"warmup", 0.4}, {"momentum", 0.5}}) == 2 * 5 * 3);
  CHECK(rows({{"warmup", 0.4}, {"momentum", 0}}) == 2 * (2 * 2 + 3 * 3));
}

TEST_CASE("sld: the third stream reads the concepts' names, or a text") {
  const Backbone base = TinyBackbone();
  Concept first = TinyConcept(), second = TinyConcept();
  first.known = {"poodle", "dog"};
  second.known = {"cat"};
  const auto third = [&](const Json& params, const std::string& text) {
    const GuidanceBatch batch = Batch(base, 4);
    const auto rows = HooksOf(params, base, {first, second})->Start(batch)->Rows(batch, 0);
    REQUIRE(rows.size() == 3);
    CHECK(rows[0].equal(batch.empty_states));
    CHECK(rows[1].equal(batch.prompt_states));
    const at::Tensor expected = States(base, {text});
    for (int64_t i = 0; i < 2; ++i) CHECK(rows[2][i].equal(expected[0]));
  };
  third(Json::object(), "poodle, dog, cat");
  third({{"text", "a picture"}}, "a picture");
  CHECK(Sld(Json::object())->traits().uses == std::vector<std::string>{"known_names"});
  CHECK(Sld(Json::object())->traits().reads_concepts);
  const MethodTraits fixed = Sld(Sld(Json::object())->presets().at("paper"))->traits();
  CHECK(fixed.uses.empty());
  CHECK_FALSE(fixed.reads_concepts);

  // At scale 1 guidance is off, and with it the text.
  const GuidanceBatch unguided = Batch(base, 4, 1);
  CHECK(HooksOf(Json::object(), base)->Start(unguided)->Rows(unguided, 0).size() == 1);
}

TEST_CASE("sld: attacks see through it, momentum included") {
  const Backbone base = TinyBackbone();
  const GuidanceBatch plain = Batch(base, 2);
  std::vector<at::Tensor> inputs;
  for (int k = 0; k < 6; ++k) inputs.push_back(SineTensor({2, 1, 2, 2}, k));
  const auto hooks = HooksOf({{"scale", 0.7}, {"warmup", 0}, {"threshold", 0.3}}, base);
  CHECK(GradientError(
            [&] {
              const std::unique_ptr<HookRun> run = hooks->Start(plain);
              const at::Tensor first = run->Combine(plain, 0, {inputs[0], inputs[1], inputs[2]});
              return first + run->Combine(plain, 1, {inputs[3], inputs[4], inputs[5]});
            },
            inputs) < 1e-7);

  // From the noise of one step to the prompt.
  GuidanceBatch batch = Batch(base, 4);
  batch.prompt_states = batch.prompt_states.detach().requires_grad_(true);
  const std::unique_ptr<Sampler> sampler = MakeSampler(base.scheduler, 4);
  const std::unique_ptr<HookRun> run = HooksOf(Json::object(), base)->Start(batch);
  const at::Tensor noise = PredictNoise(base, *run, batch, base.scheduler, *sampler, 2,
                                        SineTensor({2, 4, 8, 8}, 1, at::kFloat));
  const at::Tensor gradient = Gradients(noise.square().sum(), {batch.prompt_states})[0];
  CHECK(gradient.isfinite().all().item<bool>());
  CHECK(gradient.norm().item<double>() > 0);
}

}  // namespace excise
