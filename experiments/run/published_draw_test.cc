// Pictures drawn by the seeds and guidance scales in the rows of a prompt file.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/store.h"
#include "experiments/results/read_results.h"
#include "experiments/run/export_prompts.h"
#include "experiments/run/grid.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/runner.h"
#include "models/tensors/noise.h"
#include "models/tensors/numerics.h"
#include "models/tensors/safetensors.h"
#include "tests/imagenet_files.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

// Two concepts with the same texts: what is drawn by seed is the same, what is drawn by id is not.
const char* const kRows =
    "prompt,concept,evaluation_seed,evaluation_guidance\n"
    "a poodle on a green background,poodle,7,3\n"
    "a poodle on a green background,poodle,8,5\n"
    "a poodle on a green background,sepia,7,3\n"
    "a poodle on a green background,sepia,8,5\n";

struct Run {
  std::unique_ptr<Lab> lab;
  std::unique_ptr<Store> store;
  std::unique_ptr<Pipeline> pipeline;

  at::Tensor Pictures(size_t subject) {
    const Unit unit = UnitsOf(*lab, lab->unmodified, subject, 0, "target").at(0);
    return pipeline->Generate(unit).images.to(at::kLong);
  }
};

Run Opened(const std::string& name, const std::string& rows, const Json& sampler) {
  const fs::path file = TestFolder("published_" + name) / "rows.csv";
  std::ofstream(file) << rows;
  Json experiment = {
      {"name", "published"},
      {"concepts", {"poodle", "sepia"}},
      {"prompts",
       {{"dataset", "prompts_csv"},
        {"target", 2},
        {"near", 0},
        {"far", 0},
        {"lexical", 0},
        {"params", {{"file", file.string()}}}}},
      {"sampler", {{"scheduler", "ddim"}, {"steps", 2}, {"guidance", 3}, {"unit_size", 2}}},
      {"methods", {{"only", {"none"}}}},
      {"attacks", {{"only", {"none"}}}},
      {"metrics", {{"only", {"asr"}}}}};
  experiment["sampler"].merge_patch(sampler);
  Folders folders;
  folders.models = RepoFile("models/emoji/model_index.json").parent_path().parent_path();
  folders.concepts = RepoFile("datasets/concepts/poodle.json").parent_path();
  Run run;
  run.lab = OpenLab(MakeExperiment(experiment, "published", {}), folders);
  run.store = std::make_unique<Store>(TestFolder("published_store_" + name));
  run.pipeline = std::make_unique<Pipeline>(*run.lab, *run.store);
  return run;
}

}  // namespace

TEST_CASE("torch_cpu noise depends on the row's seed, philox noise on the row") {
  UseOneThreadPerWorker();
  Run torch = Opened("torch", kRows, {{"noise", "torch_cpu"}});
  const at::Tensor first = torch.Pictures(0);
  CHECK(first.equal(torch.Pictures(1)));
  CHECK_FALSE(first[0].equal(first[1]));
  Run philox = Opened("philox", kRows, Json::object());
  CHECK_FALSE(philox.Pictures(0).equal(philox.Pictures(1)));
  CHECK_FALSE(philox.Pictures(0).equal(first));
  // Its latents are torch.randn's by the row's seed: the same as given ones (models/snapshots has
  // PyTorch's values of TorchCpuNoise).
  Run given = Opened("given", kRows, Json::object());
  Unit unit = UnitsOf(*given.lab, given.lab->unmodified, 0, 0, "target").at(0);
  for (size_t i = 0; i < 2; ++i) {
    const std::vector<int64_t> shape = {4, 8, 8};
    const at::Tensor latents = TorchCpuNoise(7 + i)(shape).contiguous();
    const float* begin = latents.data_ptr<float>();
    unit.prompts[i].latents = {shape, {begin, begin + latents.numel()}};
  }
  CHECK(given.pipeline->Generate(unit).images.to(at::kLong).equal(first));
  // What the sampler adds comes from the same generator.
  Run added =
      Opened("ancestral", kRows, {{"noise", "torch_cpu"}, {"scheduler", "euler_ancestral"}});
  CHECK(added.Pictures(0).equal(added.Pictures(1)));
  CHECK_THROWS_WITH(
      Opened("several", kRows,
             {{"noise", "torch_cpu"}, {"scheduler", "euler_ancestral"}, {"images_per_prompt", 2}}),
      Contains("one picture a prompt"));
}

TEST_CASE("own_guidance takes the row's guidance scale") {
  UseOneThreadPerWorker();
  const Json seeds = {{"noise", "torch_cpu"}};
  Json own = seeds, five = seeds;
  own["own_guidance"] = true;
  five["guidance"] = 5;
  const at::Tensor mixed = Opened("mixed", kRows, own).Pictures(0);
  const at::Tensor three = Opened("three", kRows, seeds).Pictures(0);
  const at::Tensor all_five = Opened("five", kRows, five).Pictures(0);
  const auto apart = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).abs().max().item<int64_t>();
  };
  // Batches differ, and so may the last bit.
  CHECK(apart(mixed[0], three[0]) <= 2);
  CHECK(apart(mixed[1], all_five[1]) <= 2);
  CHECK(apart(three[1], all_five[1]) > 10);
}

TEST_CASE("rows that lack what an experiment draws by are refused before any work") {
  const std::string bare = "prompt,concept\na poodle,poodle\na house,sepia\n";
  CHECK_THROWS_WITH(Opened("bare", bare, {{"noise", "torch_cpu"}}),
                    Contains("names no seed") && Contains("sampler.noise=philox"));
  CHECK_THROWS_WITH(Opened("bare", bare, {{"own_guidance", true}}),
                    Contains("names no guidance scale"));
  CHECK_NOTHROW(Opened("bare", bare, Json::object()));
  const std::string wrong = "prompt,concept,seed\na poodle,poodle,1.5\na house,sepia,2\n";
  CHECK_THROWS_WITH(Opened("wrong", wrong, Json::object()),
                    Contains("rows.csv") && Contains("1.5"));
  const std::string large = "prompt,concept,guidance\na poodle,poodle,1e9\na house,sepia,2\n";
  CHECK_THROWS_WITH(Opened("large", large, Json::object()), Contains("outside 0 to 100"));
  const std::string word = "prompt,concept,guidance\na poodle,poodle,high\na house,sepia,2\n";
  CHECK_THROWS_WITH(Opened("word", word, Json::object()), Contains("'high' is no number"));
}

// A snapshot of Stable Diffusion's shape with neither CLIPs nor judges in its folder.
TEST_CASE("a snapshot of others is measured by a published judge, and misses what reads a CLIP") {
  UseOneThreadPerWorker();
  const fs::path folder = TestFolder("published_sd1");
  std::ofstream(folder / "church.csv")
      << "prompt,evaluation_seed,evaluation_guidance\nan old church,7,7.5\na white church,8,7\n";
  SaveSafetensors(folder / "resnet.safetensors", FormulaResNet(4));
  const Json experiment = {
      {"name", "published"},
      {"backbone", "sd1"},
      {"protocol", {{"name", "mine"}, {"sha256", std::string(64, 'a')}}},
      {"concepts", {"church"}},
      {"prompts",
       {{"dataset", "prompts_csv"},
        {"target", 2},
        {"near", 0},
        {"far", 0},
        {"lexical", 0},
        {"params",
         {{"file", (folder / "church.csv").string()}, {"concept", "church"}, {"rows", 2}}}}},
      {"sampler",
       {{"scheduler", "lms"},
        {"steps", 2},
        {"unit_size", 2},
        {"noise", "torch_cpu"},
        {"own_guidance", true}}},
      {"judge",
       {{"plugin", "imagenet"},
        {"params", {{"weights", (folder / "resnet.safetensors").string()}}}}},
      {"methods", {{"only", {"none", "negative_prompt", "uce"}}}},
      {"attacks", {{"only", {"none"}}}},
      {"metrics", {{"only", {"asr"}}}}};
  Folders folders;
  folders.models = RepoFile("tests/fixtures/sd1/model_index.json").parent_path().parent_path();
  folders.concepts = RepoFile("datasets/concepts/poodle.json").parent_path();
  const auto open = [&](const Json& more) {
    Json changed = experiment;
    changed.merge_patch(more);
    return OpenLab(MakeExperiment(changed, "published", {}), folders);
  };
  const auto lab = open(Json::object());
  Store store(TestFolder("published_sd1_store"));
  const RunOutcome outcome = RunExperiment(*lab, Grid(*lab), store, {});
  CHECK(outcome.failures == 0);
  int rates = 0;
  for (const Record& record : outcome.results.records) {
    if (record.metric != "asr" || record.subject != "church" || record.attack != "none") {
      continue;
    }
    CHECK(record.score.n == 2);
    CHECK(record.protocol.at("noise") == "torch_cpu by the prompt's seed");
    CHECK(record.protocol.at("judge").at("name") == "imagenet");
    CHECK(record.protocol.at("protocol").at("name") == "mine");
    ++rates;
  }
  CHECK(rates == 3);
  // Whoever gets the file can read it, and replay it.
  Results results = outcome.results;
  results.provenance.update({{"commit", "none"}, {"dirty", false}});  // as the program adds
  WriteResults(results, {}, folder / "out.json");
  CHECK(LoadResults(folder / "out.json").records.size() == outcome.results.records.size());
  CHECK_THROWS_WITH(ExportPrompts(*lab, Grid(*lab), store, 1, folder / "out.csv"),
                    Contains("--export_prompts") && Contains("sampler.noise=philox"));
  CHECK_THROWS_WITH(open({{"metrics", {{"only", {"asr", "clip_score"}}}}}),
                    Contains("clip_score") && Contains("reference_clip") && Contains("--metrics"));
  CHECK_THROWS_WITH(open({{"attacks", {{"only", {"none", "pez"}}}}}),
                    Contains("without its vision part") && Contains("pez"));
  CHECK_THROWS_WITH(open({{"surrogate", "independent"}, {"attacks", {{"only", {"none", "pez"}}}}}),
                    Contains("surrogate_clip") && Contains("--attacks"));
}

}  // namespace excise
