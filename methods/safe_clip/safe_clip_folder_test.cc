// A Safe-CLIP that somebody else tuned and published: a CLIPModel's folder.
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "methods/method.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

TEST_CASE("A published folder loads as a CLIP, and through the method snapshot") {
  ClipModel tuned = TinyClip();
  const std::string name = "text_model.encoder.layers.1.self_attn.v_proj.weight";
  const std::string vision = "vision_model.encoder.layers.0.mlp.fc1.weight";
  for (const std::string& one : {name, vision})
    tuned.weights.Set(one, tuned.weights.Get(one).mul(1.5));
  const fs::path folder = TestFolder("safe_clip_published");
  TrainTokenizer({"a picture of a poodle", "a picture of a dog", "a picture of a cat",
                  "poodle dog cat picture of a", "a poodle on a red background"},
                 60, 16, folder);
  std::ofstream(folder / "config.json") << ClipConfigToJson(tuned.config).dump(1);
  SaveSafetensors(folder / "model.safetensors", tuned.weights);

  const ClipModel model = LoadClipModel(folder);
  CHECK(DigestOf(model.weights) == DigestOf(tuned.weights));
  const Backbone base = TinyBackbone();
  const std::unique_ptr<Method> snapshot = Registry<Method>::Get().Make("snapshot");
  DecodeParams({{"folder", folder.string()}}, *snapshot, "test");
  TinyContext context;
  const Erased erased = snapshot->Erase(context, base, {TinyConcept()});
  // The text encoder is what draws; of it, only what differs is replaced.
  REQUIRE(erased.text_encoder.Contains(name));
  CHECK(erased.text_encoder.Get(name).equal(tuned.weights.Get(name)));
  CHECK(ApplyErased(base, erased).text_encoder.Get(name).equal(tuned.weights.Get(name)));
}

}  // namespace
}  // namespace excise
