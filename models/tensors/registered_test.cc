#include "models/tensors/registered.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <set>

#include "core/error.h"
#include "core/hash.h"
#include "models/snapshots/backbone.h"
#include "models/snapshots/snapshot.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

TEST_CASE("the models that papers use are registered, each value with its source") {
  std::set<std::string> names;
  for (const RegisteredModel& model : RegisteredModels()) {
    names.insert(model.name);
    for (const RegisteredFile& file : model.files) {
      INFO(model.name << " " << file.name);
      CHECK(file.size > 0);
      CHECK((file.sha256.empty() || file.sha256.size() == 64));
      CHECK_FALSE(file.source.empty());
    }
  }
  CHECK(names == std::set<std::string>{"sd14", "sd15", "sd21", "clip_vit_b32", "clip_vit_l14",
                                       "clip_vit_h14"});
  CHECK(FindRegisteredModel("emoji") == nullptr);
}

TEST_CASE("a registered model's folder that lacks files names them and where to get them") {
  const fs::path folder = TestFolder("registered") / "sd14";
  fs::create_directories(folder / "unet");
  std::ofstream(folder / "unet" / "config.json") << "{}";
  CHECK_THROWS_WITH(LoadBackbone(folder),
                    Contains("missing: tokenizer/vocab.json, tokenizer/merges.txt, "
                             "text_encoder/config.json, text_encoder/model.safetensors, "
                             "unet/diffusion_pytorch_model.safetensors") &&
                        Contains("CompVis/stable-diffusion-v1-4"));
}

TEST_CASE("a folder under a registered name that holds another model is refused") {
  const fs::path folder = TestFolder("registered") / "sd21";
  fs::copy(RepoFile("tests/fixtures/sd1"), folder, fs::copy_options::recursive);
  CHECK_THROWS_WITH(LoadBackbone(folder), Contains("text width") && Contains("(not 1024)") &&
                                              Contains("prediction_type") &&
                                              Contains("rename the folder"));
  const fs::path other = folder.parent_path() / "mine";
  fs::rename(folder, other);
  CHECK(LoadBackbone(other).name == "mine");
}

TEST_CASE("files that differ from the published ones are reported one by one") {
  const fs::path folder = TestFolder("registered");
  for (const char* name : {"short", "other", "same"}) std::ofstream(folder / name) << "abc";
  SnapshotFiles files(folder);
  for (const char* name : {"short", "other", "same"}) files.Need(folder, "", name);
  const std::string abc = Sha256Hex("abc");
  const auto differences = files.Differences({{"short", 4, "", "test"},
                                              {"other", 3, std::string(64, '0'), "test"},
                                              {"same", 3, abc, "test"},
                                              {"absent", 9, "", "test"}});
  REQUIRE(differences.size() == 2);
  CHECK_THAT(differences[0], Contains("short has 3 bytes, the published one 4"));
  CHECK_THAT(differences[1], Contains("other has SHA-256 " + abc));
}

}  // namespace
}  // namespace excise
