// Heads on CLIP embeddings: both layouts against PyTorch, real ones, and hostile files.
#include "methods/multi_head_filter/multi_head.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

const std::string kFolder = "tests/fixtures/espresso/";

StateDict Head(const std::string& name) { return LoadSafetensors(RepoFile(kFolder + name)); }
StateDict Expected() { return Head("expected.safetensors"); }

double LargestDifference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// The fixture's head with one tensor replaced, as a file.
fs::path Changed(const std::string& name, const at::Tensor& tensor) {
  StateDict head = Head("head.safetensors");
  head.Set(name, tensor);
  const fs::path file = TestFolder("heads_changed") / "changed.safetensors";
  SaveSafetensors(file, head);
  return file;
}

}  // namespace

TEST_CASE("Unsafe Diffusion's layout equals PyTorch's modules, in use and in training") {
  const StateDict expected = Expected();
  const at::Tensor embeds = expected.Get("image_embeds");
  StateDict head = Head("head.safetensors");
  CHECK(CheckHead(head, "head") == 12);
  CHECK(LargestDifference(HeadLogits(head, embeds), expected.Get("head_logits")) < 1e-5);

  // Training uses the batch's statistics and moves the running ones.
  for (const char* name : {"3.running_mean", "3.running_var"}) {
    head.Set(name, head.Get(name).clone());
  }
  CHECK(LargestDifference(TrainingLogits(head, embeds, expected.Get("head_mask")),
                          expected.Get("head_training_logits")) < 1e-5);
  CHECK(LargestDifference(head.Get("3.running_mean"), expected.Get("head_running_mean")) < 1e-6);
  CHECK(LargestDifference(head.Get("3.running_var"), expected.Get("head_running_var")) < 1e-6);
}

TEST_CASE("LAION's layout: unit embeddings, layers by number, columns that were categories") {
  const StateDict expected = Expected();
  const at::Tensor embeds = expected.Get("image_embeds");
  const StateDict head = Head("keras_head.safetensors");
  CHECK(CheckHead(head, "head") == 12);
  CHECK(LargestDifference(HeadLogits(head, embeds), expected.Get("keras_logits")) < 1e-4);
  CHECK(LargestDifference(HeadLogits(head, embeds * 3), expected.Get("keras_logits")) < 1e-4);
}

TEST_CASE("the real NSFW heads equal PyTorch's, where they are at hand") {
  // Logits of sin(0.1 (i + 1) (k + 1)), i = 0, 1, 2, by tools/espresso_reference.py --heads.
  const std::map<std::string, std::pair<int64_t, std::vector<double>>> known = {
      {"laion_nsfw_vitl14", {768, {-9.033137321, -4.734759808, -8.689087868}}},
      {"laion_nsfw_vitb32", {512, {-4.022740841, -17.023891449, -24.405105591}}}};
  for (const auto& [name, facts] : known) {
    const auto file = SharedFile("heads/" + name + ".safetensors");
    if (!file) {
      WARN("heads/" << name << ".safetensors is not at hand (EXCISE_SHARED); nothing was compared");
      continue;
    }
    const StateDict head = ReadHeads(*file, {}).at(name);
    CHECK(CheckHead(head, name) == facts.first);
    std::vector<at::Tensor> rows;
    for (int i = 1; i <= 3; ++i) {
      rows.push_back((at::arange(1, facts.first + 1, at::kDouble) * (0.1 * i)).sin());
    }
    const at::Tensor logits = HeadLogits(head, at::stack(rows).to(at::kFloat));
    for (int i = 0; i < 3; ++i) {
      CHECK(logits[i].item<double>() == Approx(facts.second[i]).margin(1e-4));
    }
  }
}

TEST_CASE("heads are read from a file or a folder, all or some") {
  const fs::path folder = TestFolder("heads_folder");
  for (const char* name : {"violent", "sexual"}) {
    fs::copy_file(RepoFile(kFolder + "head.safetensors"),
                  folder / (std::string(name) + ".safetensors"));
  }
  std::ofstream(folder / "README.md") << "nothing";
  CHECK(ReadHeads(folder, {}).size() == 2);
  CHECK(ReadHeads(folder, {"sexual"}).count("sexual") == 1);
  CHECK(ReadHeads(folder, {"sexual"}).size() == 1);
  CHECK_THROWS_WITH(ReadHeads(folder, {"sexuel"}), Catch::Contains("Did you mean 'sexual'?"));
  CHECK_THROWS_WITH(ReadHeads(TestFolder("heads_empty"), {}), Catch::Contains("pickles"));

  const StateDict joined = JoinHeads(ReadHeads(folder, {}));
  const auto parted = PartHeads(joined);
  CHECK(parted.size() == 2);
  CHECK(at::equal(parted.at("violent").Get("0.weight"), Head("head.safetensors").Get("0.weight")));
}

TEST_CASE("files that are no heads are refused by name") {
  const fs::path folder = TestFolder("heads_hostile");
  const std::string whole = [] {
    std::ifstream in(RepoFile(kFolder + "head.safetensors"), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }();
  for (const size_t bytes : {size_t{0}, size_t{4}, size_t{100}, whole.size() - 1}) {
    INFO(bytes << " bytes");
    const fs::path file = folder / "cut.safetensors";
    std::ofstream(file, std::ios::binary) << whole.substr(0, bytes);
    CHECK_THROWS_WITH(ReadHeads(file, {}), Catch::Contains("cut.safetensors"));
  }
  CHECK_THROWS_WITH(ReadHeads(RepoFile(kFolder + "expected.safetensors"), {}),
                    Catch::Contains("no head that is known"));
  CHECK_THROWS_WITH(ReadHeads(Changed("4.weight", at::ones({1, 7}, at::kFloat)), {}),
                    Catch::Contains("changed.safetensors") && Catch::Contains("'4.weight'") &&
                        Catch::Contains("(1, 6)"));
  CHECK_THROWS_WITH(ReadHeads(Changed("0.weight", at::ones({6}, at::kFloat)), {}),
                    Catch::Contains("'0.weight'"));
  CHECK_THROWS_WITH(ReadHeads(Changed("3.running_var", at::zeros({2, 3}, at::kFloat)), {}),
                    Catch::Contains("'3.running_var'"));

  StateDict keras = Head("keras_head.safetensors");
  keras.Set("dense_2.kernel", at::ones({11, 5}, at::kFloat));
  CHECK_THROWS_WITH(CheckHead(keras, "here"),
                    Catch::Contains("here") && Catch::Contains("dense_2"));
  StateDict lone;
  lone.Set("normalization.mean", at::ones({4}, at::kFloat));
  lone.Set("normalization.variance", at::ones({4}, at::kFloat));
  CHECK_THROWS_WITH(CheckHead(lone, "here"), Catch::Contains("no layer"));
  lone.Set("dense_2.kernel", at::ones({4, 1}, at::kFloat));
  CHECK_THROWS_WITH(CheckHead(lone, "here"),
                    Catch::Contains("here") && Catch::Contains("dense_2.bias"));
}

}  // namespace excise
