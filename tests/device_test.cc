// The whole pipeline on a device that is not the CPU (tests/fake_device.h): no tensor is left
// behind on the host in a loop, no constant is unplaced, no address is read; and since the CPU
// computes every operator of this device, the numbers are the CPU's to the last bit.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <map>

#include "core/error.h"
#include "experiments/formats/results_file.h"
#include "experiments/run/grid.h"
#include "experiments/run/runner.h"
#include "methods/concept_text.h"
#include "models/nets/unet.h"
#include "models/tensors/autograd.h"
#include "models/tensors/noise.h"
#include "models/tensors/numerics.h"
#include "tests/fake_device.h"
#include "tests/testdata.h"
#include "training/trainer.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

Results RunOn(const at::Device& device, const ExperimentChoices& choices) {
  PinGolden();
  Folders folders;
  folders.models = RepoFile("models/emoji/model_index.json").parent_path().parent_path();
  folders.concepts = RepoFile("datasets/concepts/poodle.json").parent_path();
  Compute compute;
  compute.device = device;
  const std::unique_ptr<Lab> lab =
      OpenLab(LoadExperiment(RepoFile("tests/tiny.json"), choices), folders, compute);
  Store store(TestFolder(device.is_cpu() ? "on_cpu" : "on_device"));
  RunOptions options;
  options.workers = 2;
  RunOutcome outcome = RunExperiment(*lab, Grid(*lab), store, options);
  CHECK(outcome.failures == 0);
  return std::move(outcome.results);
}

// The values of a table: what artifacts and numerics are named differs.
std::map<std::string, std::string> Numbers(const Results& results) {
  std::map<std::string, std::string> numbers;
  for (const Record& record : results.records) {
    if (record.metric == "cost") continue;
    Json json = RecordToJson(record);
    const std::string name =
        record.method + "/" + record.subject + "/" + record.attack + "/" + record.metric;
    for (const char* of_the_device : {"lineage", "provenance"}) json.erase(of_the_device);
    numbers[name] = CanonicalJson(json);
  }
  for (const Row& row : results.rows) {
    Json json = RowToJson(row);
    const std::string name = RowNameOf(json);
    json.erase("artifact");
    numbers[name] = CanonicalJson(json);
  }
  return numbers;
}

}  // namespace

TEST_CASE("the fake device is as strict as a GPU") {
  const at::Tensor here = at::arange(6, at::kFloat).view({2, 3});
  const at::Tensor there = here.to(FakeDevice());
  CHECK((there + there).to(at::kCPU).equal(here + here));
  CHECK((there * 2).sum().item<float>() == 30);
  CHECK((there.t().matmul(there)).to(at::kCPU).equal(here.t().matmul(here)));
  CHECK_THROWS_WITH(there + here, Contains("on the same device"));
  CHECK_THROWS_WITH(there.matmul(here.t()), Contains("one of the CPU"));
  CHECK_THROWS_WITH(there.index_select(0, at::arange(1, at::kLong)), Contains("one of the CPU"));
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    const volatile float read = *there.const_data_ptr<float>();
    _exit(read == 0 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
}

TEST_CASE("a U-Net's gradients on the device are the CPU's to the last bit") {
  if (!HaveModels()) {
    WARN("SKIPPED: models/emoji is not there; no gradient was compared.");
    return;
  }
  PinGolden();
  const fs::path folder = RepoFile("models/emoji/model_index.json").parent_path();
  const at::Tensor latents = at::cat(
      {LatentNoise(1, "device", 0, {1, 4, 8, 8}), LatentNoise(1, "device", 1, {1, 4, 8, 8})});
  const auto gradients = [&](const at::Device& device) {
    Compute compute;
    compute.device = device;
    const Backbone model = LoadBackbone(folder, compute);
    const at::Tensor states = EncodeTexts(model, {"a poodle", "a red car"}).detach();
    StateDict unet = model.unet;
    std::vector<at::Tensor> leaves;
    std::vector<std::string> names;
    for (const auto& [name, tensor] : model.unet) {
      names.push_back(name);
      leaves.push_back(tensor.detach().clone().requires_grad_(true));
    }
    for (size_t i = 0; i < names.size(); ++i) unet.Set(names[i], leaves[i]);
    const at::Tensor output =
        UNetForward(model.unet_config, unet, latents, at::full({}, 321, at::kFloat), states);
    std::map<std::string, at::Tensor> all = {{"output", output.detach()}, {"states", states.cpu()}};
    const std::vector<at::Tensor> found = Gradients(output.square().mean(), leaves);
    for (size_t i = 0; i < names.size(); ++i) all[names[i]] = found[i].cpu();
    return all;
  };
  const auto here = gradients(at::kCPU), there = gradients(FakeDevice());
  for (const auto& [name, gradient] : here) {
    INFO(name << " " << (gradient - there.at(name)).abs().max().item<float>());
    CHECK(gradient.equal(there.at(name)));
  }
}

TEST_CASE("a training on the device that breaks off goes on from its checkpoint") {
  const auto trained = [](const at::Device& device, const std::string& name, int64_t breaks_at) {
    StateDict weights;
    weights.Set("p", at::arange(3, at::kFloat).to(device));
    TrainSpec spec;
    spec.steps = 6;
    spec.optimizer.lr = 0.1;
    spec.checkpoint_every = 2;
    spec.checkpoint = TestFolder("train_" + name) / "checkpoint.safetensors";
    for (int attempt = 0;; ++attempt) {
      try {
        return Train(weights, {"p"}, spec,
                     [&](const StateDict& student, int64_t step, int64_t) {
                       if (attempt == 0 && step == breaks_at) throw Error("broken off");
                       return (student.Get("p") - static_cast<double>(step)).square().sum();
                     })
            .weights.Get("p");
      } catch (const Error&) {
        REQUIRE(attempt == 0);
      }
    }
  };
  const at::Tensor there = trained(FakeDevice(), "broken", 3);
  CHECK(there.device() == FakeDevice());
  CHECK(there.cpu().equal(trained(at::kCPU, "whole", -1)));
}

TEST_CASE("every method, attack and metric computes on a device what it computes on the CPU") {
  if (!HaveModels()) {
    WARN("SKIPPED: models/emoji is not there; nothing ran on the fake device.");
    return;
  }
  // All methods, then all attacks on methods that hook and filter; by night all on all.
  ExperimentChoices methods, attacks;
  methods.concepts = attacks.concepts = {"poodle"};
  methods.attacks = {"none"};
  attacks.methods = {"none", "latent_blend", "espresso", "spm"};
  if (Nightly()) methods.attacks = {};
  for (const ExperimentChoices& choices : {methods, attacks}) {
    const int64_t before = FakeDeviceOperations();
    const auto there = Numbers(RunOn(FakeDevice(), choices));
    CHECK(FakeDeviceOperations() - before > 50'000);
    const auto here = Numbers(RunOn(at::kCPU, choices));
    REQUIRE(there.size() == here.size());
    for (const auto& [name, numbers] : here) {
      INFO(name);
      REQUIRE(there.count(name) == 1);
      CHECK(there.at(name) == numbers);
    }
  }
}

}  // namespace excise
