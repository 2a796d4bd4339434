#include "experiments/lab/embeddings.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "core/error.h"
#include "models/pictures/image_io.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

std::shared_ptr<const QuadrupletBench> Open(const Json& section,
                                            const Json& params = Json::object()) {
  Experiment experiment;
  DecodeParams(section, experiment.quadruplets, "test");
  experiment.quadruplet_params = params;
  return OpenQuadruplets(experiment);
}

// What the definition says, one item at a time.
at::Tensor TextOf(const Backbone& model, const std::string& text) {
  const at::Tensor ids =
      TokenizeBatch(*model.tokenizer, {text}, model.clip.text.max_position_embeddings);
  const StateDict& weights = model.text_encoder;
  const at::Tensor x = ClipTextEmbeds(
      weights, ClipTextForward(model.clip.text, weights, ClipTokenEmbeddings(weights, ids), ids)
                   .pooler_output)[0];
  return x.div(x.norm());
}

at::Tensor PictureOf(const Backbone& model, const at::Tensor& picture) {
  const StateDict& weights = model.text_encoder;
  const at::Tensor pixels =
      ClipPreprocess(model.clip.vision, picture.to(at::kFloat).div(255).unsqueeze(0));
  const at::Tensor x = ClipImageEmbeds(
      weights, ClipVisionForward(model.clip.vision, weights, pixels).pooler_output)[0];
  return x.div(x.norm());
}

bool Close(const at::Tensor& a, const at::Tensor& b) { return a.allclose(b, 1e-4, 1e-5); }

}  // namespace

TEST_CASE("embeddings are those of the rows' texts and pictures, in the order t, v, t*, v*") {
  const Backbone model = TinyBackbone();
  const auto bench = Open({{"set", "emoji"}, {"pool", 60}, {"unseen", 3}});
  const auto set = MakeQuadrupletSet("emoji");
  for (const auto& [group, part, n] : {std::tuple("quadruplets", QuadrupletPart::kTest, 60),
                                       std::tuple("unseen", QuadrupletPart::kUnseen, 3)}) {
    const std::vector<Prompt>& prompts = bench->Prompts(group);
    const std::vector<Quadruplet> rows = set->Rows(part, n);
    REQUIRE(prompts.size() == rows.size());
    const at::Tensor embedded = bench->Embed(model, group, prompts);
    REQUIRE(embedded.sizes() == at::IntArrayRef({n, 4, 8}));
    CHECK(embedded.scalar_type() == at::kFloat);
    CHECK(Close(embedded.norm(2, -1), at::full({n, 4}, 1.0)));
    for (const int64_t i : {0, n - 1}) {
      INFO(group << " " << i);
      CHECK(prompts[i].id == rows[i].id);
      CHECK(prompts[i].root_id == rows[i].id);
      CHECK(prompts[i].text == rows[i].safe_text);
      CHECK(Close(embedded[i][0], TextOf(model, rows[i].safe_text)));
      CHECK(Close(embedded[i][2], TextOf(model, rows[i].unsafe_text)));
      const int64_t side = model.clip.vision.image_size;
      CHECK(Close(embedded[i][1], PictureOf(model, set->Picture(part, rows[i], false, side))));
      CHECK(Close(embedded[i][3], PictureOf(model, set->Picture(part, rows[i], true, side))));
    }
    // Units of another size hold the same numbers.
    const at::Tensor last = bench->Embed(model, group, {prompts.end() - 2, prompts.end()});
    CHECK(Close(last, embedded.narrow(0, n - 2, 2)));
  }
}

TEST_CASE("zero-shot: the picture, its own class's text, then the others'") {
  const Backbone model = TinyBackbone();
  const auto bench = Open({{"set", "emoji"}, {"pool", 1}, {"zero_shot", 40}});
  const auto set = MakeQuadrupletSet("emoji");
  const std::vector<OutsideClass> classes = set->OutsideClasses();
  const std::vector<OutsideItem> items = set->OutsideItems(40);
  const std::vector<Prompt>& prompts = bench->Prompts("zero_shot");
  REQUIRE(prompts.size() == 40);
  const at::Tensor embedded = bench->Embed(model, "zero_shot", prompts);
  const auto n = static_cast<int64_t>(classes.size());
  REQUIRE(embedded.sizes() == at::IntArrayRef({40, 1 + n, 8}));
  for (const int64_t i : {0, 5, 39}) {
    CHECK(prompts[i].expected_class == items[i].class_id);
    CHECK(Close(embedded[i][0],
                PictureOf(model, set->OutsidePicture(items[i], model.clip.vision.image_size))));
    int64_t other = 2;
    for (const OutsideClass& one : classes) {
      const bool own = one.id == items[i].class_id;
      CHECK(Close(embedded[i][own ? 1 : other++], TextOf(model, one.text)));
    }
    CHECK(prompts[i].text == "a picture of " + prompts[i].text.substr(13));
  }
}

TEST_CASE("models without projection or image tower, and towers of two models, are refused") {
  const Backbone model = TinyBackbone();
  const auto bench = Open({{"set", "emoji"}, {"pool", 2}, {"zero_shot", 2}});
  for (const auto& [missing, words] : {std::pair("visual_projection.weight", "no image tower"),
                                       std::pair("text_projection.weight", "no text projection")}) {
    Backbone bare = model;
    StateDict kept;
    for (const auto& [name, tensor] : model.text_encoder) {
      if (name != missing) kept.Set(name, tensor);
    }
    bare.text_encoder = kept;
    for (const char* group : {"quadruplets", "zero_shot"}) {
      CHECK_THROWS_WITH(bench->Embed(bare, group, bench->Prompts(group)), Contains(words));
    }
  }
  Backbone mixed = model;
  mixed.text_encoder.Set("text_projection.weight",
                         model.text_encoder.Get("text_projection.weight").narrow(0, 0, 6));
  CHECK_THROWS_WITH(bench->Embed(mixed, "quadruplets", bench->Prompts("quadruplets")),
                    Contains("texts are embedded in 6 dimensions and pictures in 8"));
  CHECK_THROWS_AS(bench->Embed(model, "quadruplets", {TinyPrompt()}), Error);
  CHECK_THROWS_AS(bench->Embed(model, "unseen", bench->Prompts("quadruplets")), Error);
  CHECK_THROWS_AS(bench->Embed(model, "zero_shot", bench->Prompts("quadruplets")), Error);
}

TEST_CASE("the section: keys, what is shown, what is refused") {
  CHECK(OpenQuadruplets(Experiment()) == nullptr);
  const auto bench = Open({{"set", "emoji"}, {"pool", 2}});
  CHECK(bench->Prompts("unseen").empty());
  CHECK(bench->Prompts("zero_shot").empty());
  CHECK(bench->Excluded("quadruplets").empty());
  CHECK(IsEmbeddedGroup("unseen"));
  CHECK_FALSE(IsEmbeddedGroup("target"));
  const Json key = bench->Key("quadruplets");
  CHECK(key != bench->Key("unseen"));
  // More rows reuse the others.
  CHECK(Open({{"set", "emoji"}, {"pool", 9}})->Key("quadruplets") == key);
  CHECK(Open({{"set", "emoji"}}, {{"seed", 4}})->Key("quadruplets") != key);
  CHECK(Open({{"set", "emoji"}, {"part", "validation"}})->Key("quadruplets") != key);
  CHECK(bench->Describe().at("params").at("seed") == 1);
  CHECK_THROWS_WITH(Open({{"set", "emojis"}}), Contains("Did you mean 'emoji'"));
  CHECK_THROWS_WITH(Open({{"set", "visu"}}), Contains("quadruplets.params.annotations"));
  CHECK_THROWS_WITH(Open({{"set", "emoji"}}, {{"sead", 1}}), Contains("Did you mean 'seed'"));
}

TEST_CASE("a folder of the user enters keys by its content and results by its name") {
  const fs::path root = TestFolder("bench_visu");
  for (const char* folder : {"text/test", "coco/val2017", "unsafe"}) {
    fs::create_directories(root / folder);
  }
  std::ofstream(root / "text/test/visu_x.json")
      << R"([{"coco_id": 1, "safe": "a cat", "nsfw": "a bomb", "nsfw_im_path": "1.png",
             "tag": "weapons"},
            {"coco_id": 1, "safe": "a boy", "nsfw": "a bomb", "nsfw_im_path": "1.png",
             "tag": "weapons"}])";
  WritePng(root / "coco/val2017/000000000001.jpg", at::full({3, 9, 7}, 90, at::kByte));
  WritePng(root / "unsafe/1.png", at::full({3, 8, 8}, 200, at::kByte));
  const Json params = {{"annotations", (root / "text").string()},
                       {"images", (root / "coco").string()},
                       {"unsafe_images", (root / "unsafe").string()}};
  const auto bench = Open({{"set", "visu"}, {"pool", 5}}, params);
  CHECK(bench->Prompts("quadruplets").size() == 1);
  CHECK(bench->Excluded("quadruplets").size() == 1);
  CHECK(bench->Describe().at("params").at("annotations") == "text");
  CHECK(bench->Describe().at("files").at("annotations").get<std::string>().size() == 64);
  CHECK(bench->Describe().at("excluded").at("quadruplets") == 1);
  const Json key = bench->Key("quadruplets");
  CHECK(key.dump().find(root.string()) == std::string::npos);
  const at::Tensor embedded =
      bench->Embed(TinyBackbone(), "quadruplets", bench->Prompts("quadruplets"));
  CHECK(embedded.sizes() == at::IntArrayRef({1, 4, 8}));
  WritePng(root / "unsafe/1.png", at::full({3, 8, 8}, 201, at::kByte));
  CHECK(Open({{"set", "visu"}, {"pool", 5}}, params)->Key("quadruplets") != key);
}

}  // namespace excise
