#include "models/snapshots/snapshot.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>

#include "core/hash.h"
#include "core/json.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

// The digest of a folder with config.json and weights, where `change` happens while they are read.
std::string DigestAfter(const std::function<void(const fs::path&)>& change) {
  const fs::path folder = TestFolder("snapshot_files");
  std::ofstream(folder / "config.json") << "{}";
  std::ofstream(folder / "model.safetensors") << "weights";
  SnapshotFiles files(folder);
  files.Need(folder, "", "config.json");
  files.NeedWeights(folder, "", "model");
  files.Check("model");
  usleep(20'000);  // the folder's times tick
  change(folder);
  return files.Digest();
}

}  // namespace

TEST_CASE("a model whose files change while they are read has no digest") {
  const Json digests = {{"config.json", Sha256Hex("{}")},
                        {"model.safetensors", Sha256Hex("weights")}};
  CHECK(DigestAfter([](const fs::path&) {}) == Sha256Hex(CanonicalJson(digests)));
  CHECK_THROWS_WITH(DigestAfter([](const fs::path& folder) {
                      std::ofstream(folder / "model.safetensors") << "other weights";
                    }),
                    Contains("model.safetensors was changed"));
  CHECK_THROWS_WITH(DigestAfter([](const fs::path& folder) { fs::remove(folder / "config.json"); }),
                    Contains("config.json"));
  // What was not there decides what is read, too.
  CHECK_THROWS_WITH(DigestAfter([](const fs::path& folder) {
                      std::ofstream(folder / "model.safetensors.index.json") << "{}";
                    }),
                    Contains("snapshot_files was changed"));
}

}  // namespace excise
