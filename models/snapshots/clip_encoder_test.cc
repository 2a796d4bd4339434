#include "models/snapshots/clip_encoder.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "core/json.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

// transformers 5.23.0 on models of random weights (tools/make_fixtures.py).
struct Golden {
  explicit Golden(const std::string& name)
      : folder(RepoFile("tests/fixtures/" + name)),
        inputs(LoadSafetensors(folder / "inputs.safetensors")),
        expected(LoadSafetensors(folder / "expected.safetensors")) {}
  void Check(const std::string& name, const at::Tensor& actual) const {
    INFO(folder.filename().string() << " " << name);
    const at::Tensor& wanted = expected.Get(name);
    REQUIRE(actual.sizes() == wanted.sizes());
    const auto length = [](const at::Tensor& x) {
      return at::linalg_vector_norm(x).item<double>();
    };
    CHECK(length(actual - wanted) <= 1e-5 * length(wanted));
  }
  std::filesystem::path folder;
  StateDict inputs, expected;
};

ClipModel ClipOf(const Golden& golden) {
  ClipModel clip;
  const std::filesystem::path file = golden.folder / "config.json";
  clip.config = ParseClipConfig(ReadJsonFile(file), file.string());
  clip.weights = LoadSafetensorsFolder(golden.folder, "model");
  return clip;
}

struct CountLinear : LayerHooks {
  bool WantsLinear(const std::string&) const override { return true; }
  at::Tensor OnLinear(const std::string&, const at::Tensor&, at::Tensor y) override {
    ++calls;
    return y;
  }
  int calls = 0;
};

}  // namespace

TEST_CASE("embeddings of tokens and pictures equal transformers, however much is computed") {
  const NoGrad no_grad;
  const std::string name = GENERATE(as<std::string>{}, "clip_quick_gelu", "clip_legacy");
  const Golden golden(name);
  const ClipModel clip = ClipOf(golden);
  const at::Tensor ids = golden.inputs.Get("input_ids");
  const at::Tensor pixels = golden.inputs.Get("pixel_values");
  for (const ClipPass pass : {ClipPass::kAllTokens, ClipPass::kPooledToken}) {
    CountLinear text, vision;
    golden.Check("text.text_embeds", EmbedIds(clip.config.text, clip.weights, ids, pass, &text));
    golden.Check("text.text_embeds",
                 EmbedTokens(clip.config.text, clip.weights, ClipTokenEmbeddings(clip.weights, ids),
                             ids, pass));
    golden.Check("vision.image_embeds",
                 EmbedPixels(clip.config.vision, clip.weights, pixels, pass, &vision));
    CHECK(text.calls == 6 * clip.config.text.num_hidden_layers);
    CHECK(vision.calls == 6 * clip.config.vision.num_hidden_layers + 1);  // the patch embedding
  }
  // Pictures that the published mean and deviation bring to the same pixels.
  const at::Tensor mean = at::tensor({0.48145466, 0.4578275, 0.40821073}, at::kFloat);
  const at::Tensor deviation = at::tensor({0.26862954, 0.26130258, 0.27577711}, at::kFloat);
  const at::Tensor pictures = pixels * deviation.view({1, 3, 1, 1}) + mean.view({1, 3, 1, 1});
  golden.Check("vision.image_embeds", EmbedPictures(clip, pictures));
}

TEST_CASE("texts are tokenised and padded as transformers does") {
  const NoGrad no_grad;
  const std::string name = GENERATE(as<std::string>{}, "sd1", "sd2");
  const Golden golden(name);
  const Backbone backbone = LoadBackbone(golden.folder);
  // Their encoders have no projection; with this one an embedding is the pooled state.
  ClipModel clip;
  clip.config = backbone.clip;
  clip.tokenizer = backbone.tokenizer;
  clip.weights = backbone.text_encoder;
  clip.weights.Set("text_projection.weight", at::eye(clip.config.text.hidden_size, at::kFloat));
  golden.Check("text.pooler_output", EmbedTexts(clip, {"a picture of a poodle", ""}));
}

}  // namespace excise
