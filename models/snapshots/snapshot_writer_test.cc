#include "models/snapshots/snapshot_writer.h"

#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

bool Same(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    if (!b.Contains(name) || !tensor.equal(b.Get(name))) return false;
  }
  return true;
}

TEST_CASE("A tuned model is written as a snapshot, and loads again") {
  // A backbone with files of its own.
  Backbone base = LoadBackbone(RepoFile("tests/fixtures/sd1"));
  Backbone edited = base;
  const std::string name = "text_model.encoder.layers.0.mlp.fc1.weight";
  edited.text_encoder.Set(name, base.text_encoder.Get(name).mul(1.5));
  const fs::path folder = TestFolder("snapshot_written") / "model";
  SaveSnapshot(edited, folder);
  const Backbone loaded = LoadBackbone(folder);
  CHECK(Same(loaded.text_encoder, edited.text_encoder));
  CHECK(Same(loaded.unet, edited.unet));
  CHECK(Same(loaded.vae, edited.vae));
  CHECK(fs::exists(folder / "model_index.json"));
  CHECK_THROWS_WITH(SaveSnapshot(edited, folder), Catch::Contains("not empty"));
  base.folder = "/no/such/folder";
  CHECK_THROWS_WITH(SaveSnapshot(base, TestFolder("snapshot_nowhere") / "model"),
                    Catch::Contains("/no/such/folder"));
}

}  // namespace
}  // namespace excise
