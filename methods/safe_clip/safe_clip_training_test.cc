#include "methods/safe_clip/safe_clip_training.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"
#include "training/trainer.h"

namespace excise {
namespace {

// Pictures of one colour a row; texts of TinyTokenizer's words.
class FakeQuadruplets : public QuadrupletSet {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  std::vector<Quadruplet> Rows(QuadrupletPart part, int64_t limit) const override {
    parts.insert(part);
    std::vector<Quadruplet> out;
    const char* words[] = {"cat", "dog", "a picture of a dog", "a picture of a cat", "red"};
    for (int64_t row = 0; row < std::min(rows, limit); ++row) {
      out.push_back({fmt::format("fake@0/{}", row), fmt::format("a {}", words[row % 5]),
                     fmt::format("a poodle {}", words[row % 5]), "poodle", row});
    }
    return out;
  }
  at::Tensor Picture(QuadrupletPart part, const Quadruplet& row, bool unsafe,
                     int64_t wanted) const override {
    if (--pictures_left == 0) throw std::runtime_error("killed");
    const double level = 20 + 31 * (row.row % 7) + (part == QuadrupletPart::kTrain ? 0 : 9);
    at::Tensor picture = at::full({3, wanted + wrong_by, wanted}, level, at::kByte);
    picture[unsafe ? 0 : 1].fill_(unsafe ? 250 : 5);
    return picture;
  }

  int64_t rows = 6, wrong_by = 0;
  mutable int64_t pictures_left = -1;
  mutable std::set<QuadrupletPart> parts;
};

ClipTowers TinyTowers() {
  const ClipModel clip = TinyClip();
  return {clip.config, clip.weights, clip.tokenizer, "the tiny CLIP"};
}

SafeClipSpec TinySpec() {
  SafeClipSpec spec;
  spec.batch = 4;
  spec.epochs = 3;
  spec.lr = 0.02;
  return spec;
}

StateDict With(const StateDict& weights, const StateDict& changed) {
  StateDict out = weights;
  out.Merge(changed);
  return out;
}

at::Tensor Vision(const ClipTowers& towers, const at::Tensor& pixels, LayerHooks* hooks = nullptr) {
  return ClipVisionForward(towers.config.vision, towers.weights, pixels, hooks).pooler_output;
}

at::Tensor Text(const ClipTowers& towers, const at::Tensor& ids, LayerHooks* hooks = nullptr) {
  return ClipTextForward(towers.config.text, towers.weights,
                         ClipTokenEmbeddings(towers.weights, ids), ids, {}, hooks)
      .pooler_output;
}

double MaxDifference(const at::Tensor& a, const at::Tensor& b) {
  REQUIRE(a.sizes() == b.sizes());
  return (a - b).abs().max().item<double>();
}

TEST_CASE("Exactly the released layers of both towers have adapters") {
  const ClipTowers towers = TinyTowers();
  const LoraSpec spec = SafeClipLora();
  CHECK(spec.rank == 16);
  CHECK(spec.alpha == 1);
  CHECK(spec.dropout == 0.1);
  std::set<std::string> expected = {"vision_model.embeddings.patch_embedding"}, found;
  const auto layers = [&](const std::string& tower, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      for (const char* layer :
           {"self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2"}) {
        expected.insert(fmt::format("{}.encoder.layers.{}.{}", tower, i, layer));
      }
    }
  };
  layers("text_model", towers.config.text.num_hidden_layers);
  layers("vision_model", towers.config.vision.num_hidden_layers);
  for (const auto& [name, tensor] : InitLora(towers.weights, spec, 1)) {
    found.insert(name.substr(0, name.find(".lora_")));
  }
  CHECK(found == expected);
}

TEST_CASE("Adapters as hooks equal the merged towers, the patch embedding's too") {
  ClipTowers towers = TinyTowers();
  LoraSpec spec = SafeClipLora();
  spec.dropout = 0;
  spec.alpha = 8;
  StateDict lora;
  for (const auto& [name, tensor] : InitLora(towers.weights, spec, 1)) {
    lora.Set(name, nn::InitNormal(tensor.sizes(), 0.3, 2, name));
  }
  LoraHooks hooks(AsLinear(lora), spec, 1);
  const at::Tensor pixels = ClipPreprocess(towers.config.vision, TinyImages(3, 4));
  const at::Tensor ids = TokenizeBatch(*towers.tokenizer, {"a poodle", "a red dog"}, 16);
  const at::Tensor vision = Vision(towers, pixels, &hooks), text = Text(towers, ids, &hooks);
  const at::Tensor plain = Vision(towers, pixels);
  CHECK(MaxDifference(vision, plain) > 0.01);
  towers.weights = MergeLora(towers.weights, lora, spec);
  CHECK(MaxDifference(vision, Vision(towers, pixels)) < 1e-4);
  CHECK(MaxDifference(text, Text(towers, ids)) < 1e-4);
}

// torch, transformers and peft in double precision: tools/safe_clip_reference.py.
TEST_CASE("Training steps equal peft's, with a frozen reference and as released") {
  const StateDict file = LoadSafetensors(RepoFile("tests/fixtures/safe_clip.safetensors"), false);
  ClipTowers towers;
  StateDict lora;
  for (const auto& [name, tensor] : file) {
    if (StartsWith(name, "model.")) towers.weights.Set(name.substr(6), tensor);
    if (StartsWith(name, "lora.")) lora.Set(name.substr(5), tensor);
  }
  towers.config.text = {30, 16, 24, 2, 2, 8, 6, 28, 29, 29};
  towers.config.vision = {20, 28, 1, 2, 12, 4, 6};
  CHECK_NOTHROW(CheckTowers(towers));
  LoraSpec spec = SafeClipLora();
  spec.rank = 3;
  spec.dropout = 0;
  std::vector<std::string> names;
  for (const auto& [name, tensor] : InitLora(towers.weights, spec, 1)) {
    CHECK(lora.Get(name).sizes() == tensor.sizes());
    names.push_back(name);
  }
  CHECK(names.size() == lora.size());

  const at::Tensor ids = file.Get("batch.ids"), pixels = file.Get("batch.pixels");
  for (const std::string mode : {"frozen", "released"}) {
    INFO(mode);
    TrainSpec training;
    training.steps = 4;
    training.optimizer.name = "adam";
    training.optimizer.lr = 0.01;
    const TrainResult result =
        Train(lora, names, training, [&](const StateDict& adapters, int64_t step, int64_t) {
          const int64_t b = step % 2;
          const QuadrupletBatch batch = {ids[b][0], ids[b][1], pixels[b][0], pixels[b][1]};
          LoraHooks hooks(AsLinear(adapters), spec, 1);
          const ReferenceEmbeds frozen = {
              ClipTextEmbeds(towers.weights, Text(towers, batch.safe_ids)),
              ClipImageEmbeds(towers.weights, Vision(towers, batch.safe_pixels))};
          return BatchLoss(towers, batch, SafeClipSpec().terms, &hooks,
                           mode == "frozen" ? &frozen : nullptr)
              .total;
        });
    for (int64_t i = 0; i < 4; ++i) {
      const double expected = file.Get(mode + ".losses")[i].item<double>();
      CHECK(result.losses[static_cast<size_t>(i)] == Approx(expected).epsilon(1e-7));
    }
    ClipTowers tuned = towers;
    tuned.weights = MergeLora(towers.weights, result.weights, spec);
    CHECK(MaxDifference(ClipTextEmbeds(tuned.weights, Text(tuned, ids[0][1])),
                        file.Get(mode + ".text")) < 1e-6);
    CHECK(MaxDifference(ClipImageEmbeds(tuned.weights, Vision(tuned, pixels[0][1])),
                        file.Get(mode + ".vision")) < 1e-6);
  }
  CHECK(std::abs(file.Get("frozen.losses")[3].item<double>() -
                 file.Get("released.losses")[3].item<double>()) > 1e-3);
}

TEST_CASE("A frozen reference and the original are the same after training as before") {
  const ClipTowers towers = TinyTowers();
  const std::string before = DigestOf(towers.weights);
  FakeQuadruplets data;
  TinyContext context;
  const SafeClipResult result = TrainSafeClip(towers, data, TinySpec(), context);
  CHECK(DigestOf(towers.weights) == before);
  // Training moved the model, and the reference that it ended with is the original's own output.
  CHECK(DigestOf(With(towers.weights, result.by_recall_sum)) != before);
  std::vector<std::string> texts;
  std::vector<at::Tensor> pictures;
  for (const Quadruplet& row : data.Rows(QuadrupletPart::kTrain, 100)) {
    texts.push_back(row.safe_text);
    pictures.push_back(data.Picture(QuadrupletPart::kTrain, row, false, 64).unsqueeze(0));
  }
  const at::Tensor ids = TokenizeBatch(*towers.tokenizer, texts, 16);  // not cut
  const at::Tensor pixels =
      ClipPreprocess(towers.config.vision, at::cat(pictures).to(at::kFloat).div(255.0));
  CHECK(MaxDifference(result.reference.text, ClipTextEmbeds(towers.weights, Text(towers, ids))) <
        1e-5);
  CHECK(MaxDifference(result.reference.vision,
                      ClipImageEmbeds(towers.weights, Vision(towers, pixels))) < 1e-5);
  CHECK(context.gradient_steps == 3 * 2);  // 6 rows by 4, the rest in a smaller batch
  const std::set<QuadrupletPart> read = {QuadrupletPart::kTrain, QuadrupletPart::kValidation};
  CHECK((data.parts == read));

  SafeClipSpec spec = TinySpec();
  spec.frozen_reference = false;
  TinyContext other;
  const SafeClipResult released = TrainSafeClip(towers, data, spec, other);
  CHECK(DigestOf(towers.weights) == before);
  CHECK_FALSE(released.reference.text.defined());
  // Fresh adapters change nothing, so the first step agrees; the reference moves afterwards.
  CHECK(released.losses[0] == Approx(result.losses[0]).epsilon(1e-5));
  CHECK(std::abs(released.losses[5] - result.losses[5]) > 1e-4);
}

TEST_CASE("A killed training goes on bit for bit") {
  const ClipTowers towers = TinyTowers();
  TinyContext straight_context, context;
  const SafeClipResult straight =
      TrainSafeClip(towers, FakeQuadruplets(), TinySpec(), straight_context);
  // Pictures are kept in memory once read, so runs are killed while they read them.
  for (const int64_t after : {3, 14, 20}) {
    FakeQuadruplets data;
    data.pictures_left = after;
    CHECK_THROWS_WITH(TrainSafeClip(towers, data, TinySpec(), context), "killed");
  }
  SafeClipSpec shorter = TinySpec();
  shorter.epochs = 2;
  TrainSafeClip(towers, FakeQuadruplets(), shorter, context);
  const SafeClipResult resumed = TrainSafeClip(towers, FakeQuadruplets(), TinySpec(), context);
  CHECK(resumed.losses == straight.losses);
  CHECK(resumed.recall_sums == straight.recall_sums);
  CHECK(DigestOf(resumed.by_recall_sum) == DigestOf(straight.by_recall_sum));
  CHECK(DigestOf(resumed.by_validation_loss) == DigestOf(straight.by_validation_loss));
  CHECK(at::equal(resumed.reference.text, straight.reference.text));
}

TEST_CASE("It ends when neither criterion improves, and terms that are off are not embedded") {
  const ClipTowers towers = TinyTowers();
  SafeClipSpec spec = TinySpec();
  spec.lr = 0;
  spec.patience = 2;
  spec.epochs = 20;
  spec.terms = ParseSafeClipTerms("1,3,5,7");
  FakeQuadruplets data;
  TinyContext context;
  const SafeClipResult result = TrainSafeClip(towers, data, spec, context);
  CHECK(result.stopped_early);
  CHECK(result.recall_sums.size() == 3);  // the first is the best; two more without a better one
  CHECK(result.validation_losses[0] == result.validation_losses[2]);
  for (const auto& [name, tensor] : result.by_recall_sum) {
    CHECK(tensor.equal(towers.weights.Get(name)));  // rate 0: B stays 0
  }
}

TEST_CASE("A few steps on ViT-L/14's layout at reduced width") {
  ClipTowers towers = TinyTowers();
  ClipConfig& config = towers.config;
  config.text.hidden_size = 24;
  config.text.num_attention_heads = 3;
  config.text.num_hidden_layers = 12;
  config.text.intermediate_size = 96;
  config.text.max_position_embeddings = 77;
  config.vision.hidden_size = 32;
  config.vision.num_attention_heads = 4;
  config.vision.num_hidden_layers = 24;
  config.vision.intermediate_size = 128;
  config.vision.image_size = 224;
  config.vision.patch_size = 14;
  config.projection_dim = 24;
  towers.weights = InitClip(config, 3);
  SafeClipSpec spec = TinySpec();
  spec.batch = 2;
  spec.epochs = 1;
  FakeQuadruplets data;
  data.rows = 4;
  TinyContext context;
  const SafeClipResult result = TrainSafeClip(towers, data, spec, context);
  CHECK(result.losses.size() == 2);
  CHECK(std::isfinite(result.validation_losses.at(0)));
  CHECK(result.by_recall_sum.size() == 12 * 5 + 24 * 5 + 1);
  CHECK(result.by_recall_sum.Get("vision_model.embeddings.patch_embedding.weight").sizes() ==
        at::IntArrayRef({32, 3, 14, 14}));
}

TEST_CASE("What cannot be trained is refused, and says why") {
  const auto train = [](const ClipTowers& towers, const FakeQuadruplets& data) {
    TinyContext context;
    TrainSafeClip(towers, data, TinySpec(), context);
  };
  FakeQuadruplets data;
  for (const int64_t rows : {0, 1}) {
    data.rows = rows;
    CHECK_THROWS_WITH(train(TinyTowers(), data),
                      Catch::Contains("'train'") && Catch::Contains(fmt::format("{} rows", rows)));
  }
  data.rows = 6;
  data.wrong_by = 1;
  CHECK_THROWS_WITH(train(TinyTowers(), data),
                    Catch::Contains("fake@0/") && Catch::Contains("[3, 65, 64]"));
  data.wrong_by = 0;

  ClipTowers towers = TinyTowers();
  towers.weights.Set("visual_projection.weight", at::ones({9, 16}));
  CHECK_THROWS_WITH(train(towers, data), Catch::Contains("visual_projection.weight") &&
                                             Catch::Contains("[9, 16]") &&
                                             Catch::Contains("[8, 16]"));
  towers = TinyTowers();
  towers.weights.Set("text_projection.weight", at::ones({8, 15}));
  CHECK_THROWS_WITH(train(towers, data), Catch::Contains("text_projection.weight"));
  towers = TinyTowers();
  StateDict text_only;
  for (const auto& [name, tensor] : towers.weights) {
    if (StartsWith(name, "text_")) text_only.Set(name, tensor);
  }
  towers.weights = text_only;
  CHECK_THROWS_WITH(train(towers, data),
                    Catch::Contains("visual_projection") && Catch::Contains("'clip'"));
  towers = TinyTowers();
  towers.weights.Set("text_projection.weight", at::full({8, 16}, NAN));
  CHECK_THROWS_WITH(train(towers, data),
                    Catch::Contains("the tiny CLIP") && Catch::Contains("not finite"));
  SafeClipSpec spec = TinySpec();
  spec.frozen_reference = false;
  TinyContext context;
  CHECK_THROWS_WITH(TrainSafeClip(towers, data, spec, context),
                    Catch::Contains("'safe_clip'") && Catch::Contains("nan at step 0"));
}

}  // namespace
}  // namespace excise
