// Gradient steps a second of unlearn_diff_atk on the embedded backbone's weights, one prompt at a
// time and in lanes (first argument), without and with what queries draw (second argument: 0, 1).
// No answer ends the search. Against PyTorch: tools/compare_attack_speed.py.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <benchmark/benchmark.h>

#include <memory>

#include "attacks/attack.h"
#include "core/error.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
#include "models/tensors/numerics.h"

namespace excise {
namespace {

constexpr int64_t kTimesteps = 2, kIterations = 20;
constexpr const char* kText = "a photo of a poodle on a red background";

const Backbone& Model() {
  static const Backbone model = LoadBackbone("models/emoji");
  return model;
}

// Pictures of the prompts in one pass, as a table draws them.
at::Tensor Pictures(const std::vector<Prompt>& prompts, const SamplerSpec& spec) {
  const NoGrad no_grad;
  const Backbone& model = Model();
  const int64_t context = model.clip.text.max_position_embeddings;
  std::vector<std::string> texts;
  std::vector<at::Tensor> noise;
  for (const Prompt& prompt : prompts) {
    texts.push_back(prompt.text);
    noise.push_back(LatentNoise(1, prompt.root_id, 0, {4, 8, 8}));
  }
  const at::Tensor states = EncodeText(model, TokenizeBatch(*model.tokenizer, texts, context));
  const at::Tensor empty =
      EncodeText(model, TokenizeBatch(*model.tokenizer, {""}, context)).expand_as(states);
  return DecodeImages(model, SampleLatents(model, nullptr, states, empty, at::stack(noise), spec));
}

class BenchTarget : public Target {
 public:
  BenchTarget() {
    sampling_.scheduler = "dpmsolver";
    sampling_.steps = 8;
  }
  const ClipModel& Surrogate() override { throw Error("no surrogate"); }
  const Backbone& Unmodified() override { return Model(); }
  at::Tensor ReferenceImages(const Prompt&, int64_t n) override {
    return at::full({n, 3, 64, 64}, 0.5);
  }
  std::vector<Prompt> Seeds() override { throw Error("no seeds"); }
  const Backbone& Victim() override { return Model(); }
  const Hooks* VictimHooks() override { return nullptr; }
  const SamplerSpec& Sampling() override { return sampling_; }
  std::optional<Answer> Query(const Prompt&) override { return Answer(); }
  Philox Rng(const Prompt& prompt, uint64_t step) override {
    return Philox({1, prompt.root_id, 0, Stream::kAttack, step});
  }
  Philox Rng(const Concept& subject, uint64_t step) override {
    return Philox({1, subject.name, 0, Stream::kAttack, step});
  }
  Ledger& ledger() override { return ledger_; }

 private:
  SamplerSpec sampling_;
  Ledger ledger_;
};

class BenchLanes : public Lanes {
 public:
  BenchLanes(std::vector<Target*> targets, bool draws) : Lanes(std::move(targets)), draws_(draws) {}
  std::vector<std::optional<Answer>> Query(
      const std::vector<std::optional<Prompt>>& prompts) override {
    std::vector<Prompt> asked;
    for (size_t lane = 0; lane < size(); ++lane) {
      asked.push_back(prompts[lane].value_or(Prompt()));
    }
    if (draws_) benchmark::DoNotOptimize(Pictures(asked, any().Sampling()));
    return Lanes::Query(prompts);
  }

 private:
  const bool draws_;
};

void BM_UnlearnDiffAtk(benchmark::State& state) {
  UseOneThreadPerWorker();
  const auto size = static_cast<size_t>(state.range(0));
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make("unlearn_diff_atk");
  DecodeParams({{"timesteps", kTimesteps}, {"iterations", kIterations}, {"tokens", "all"}}, *attack,
               "benchmark");
  std::vector<Prompt> seeds(size);
  for (size_t lane = 0; lane < size; ++lane) {
    seeds[lane].id = seeds[lane].root_id = "prompt/" + std::to_string(lane);
    seeds[lane].text = kText;
  }
  std::vector<BenchTarget> targets(size);
  std::vector<Target*> pointers;
  for (BenchTarget& target : targets) pointers.push_back(&target);
  BenchLanes lanes(pointers, state.range(1) != 0);
  for (auto _ : state) benchmark::DoNotOptimize(attack->CraftTogether(lanes, Concept(), seeds));
  state.SetItemsProcessed(state.iterations() * state.range(0) * kTimesteps * kIterations);
}

BENCHMARK(BM_UnlearnDiffAtk)
    ->ArgsProduct({{1, 5, 10, 20}, {0, 1}})
    ->ArgNames({"lanes", "queries"})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace excise
