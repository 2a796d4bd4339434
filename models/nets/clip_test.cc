#include "models/nets/clip.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "models/tensors/numerics.h"
#include "tests/gradient_check.h"

namespace excise {
namespace {

ClipConfig TinyConfig(int64_t eos_token_id, const std::string& activation) {
  ClipConfig config;
  config.text.vocab_size = 20;
  config.text.hidden_size = 8;
  config.text.intermediate_size = 12;
  config.text.num_hidden_layers = 2;
  config.text.num_attention_heads = 2;
  config.text.max_position_embeddings = 7;
  config.text.eos_token_id = eos_token_id;
  config.text.hidden_act = activation;
  config.vision.hidden_size = 12;
  config.vision.intermediate_size = 16;
  config.vision.num_hidden_layers = 2;
  config.vision.num_attention_heads = 3;
  config.vision.image_size = 8;
  config.vision.patch_size = 4;
  config.vision.hidden_act = activation;
  config.projection_dim = 6;
  return config;
}

// Tensor i (by name) holds 0.3 sin(0.37 j + 1.3 i), norm weights that plus one.
StateDict SineWeights(const ClipConfig& config) {
  StateDict weights;
  int i = 0;
  for (const auto& [name, tensor] : InitClip(config, 0)) {
    at::Tensor values = SineTensor(tensor.sizes(), i++) * 0.3;
    const bool norm = name.find("norm") != std::string::npos;
    if (norm && name.find(".weight") != std::string::npos) values = values + 1;
    weights.Set(name, values);
  }
  return weights;
}

at::Tensor Ids() {
  return at::tensor({18, 3, 5, 19, 19, 19, 19, 18, 7, 2, 9, 11, 4, 19}, at::kLong).view({2, 7});
}

void CheckValues(const at::Tensor& tensor, const std::vector<double>& expected) {
  const at::Tensor flat = tensor.flatten();
  REQUIRE(flat.numel() == static_cast<int64_t>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(flat[i].item<double>() == Approx(expected[i]).margin(2e-8));
  }
}

// Expected values: transformers 5.23.0 (torch 2.11.0, float64), CLIPModel with these configs and
// weights; the projected, not normalised embeddings.
TEST_CASE("CLIP equals transformers on small weights") {
  const at::Tensor ids = Ids();
  const at::Tensor pixels = at::sin(at::arange(2 * 3 * 64, at::kDouble) * 0.11).view({2, 3, 8, 8});
  SECTION("quick_gelu, pooled at the first end token") {
    const ClipConfig config = TinyConfig(19, "quick_gelu");
    const StateDict weights = SineWeights(config);
    const auto text = ClipTextForward(config.text, weights, ClipTokenEmbeddings(weights, ids), ids);
    CheckValues(text.last_hidden_state[0][5],
                {-1.404011372, 0.497941167, 1.168042855, -0.059020855, -0.309531997, 0.666559255,
                 0.698480259, -1.198818268});
    CHECK(text.last_hidden_state.square().sum().item<double>() == Approx(87.78460528866708));
    CheckValues(ClipTextEmbeds(weights, text.pooler_output),
                {-0.174205392, 0.230498125, -0.279210842, 0.318741605, -0.347790432, 0.36540204,
                 -0.329714833, 0.384148895, -0.425950078, 0.453743732, -0.466615855, 0.46414314});
    const auto vision = ClipVisionForward(config.vision, weights, pixels);
    CHECK(vision.last_hidden_state.square().sum().item<double>() == Approx(300.98177239384245));
    CheckValues(ClipImageEmbeds(weights, vision.pooler_output),
                {1.091220557, -0.351800258, -0.901928727, 0.837097627, 0.451514783, -1.080042473,
                 1.077849147, -0.357415881, -0.88553574, 0.833892737, 0.436846238, -1.068944935});

    const at::Tensor mask =
        at::tensor({1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1}, at::kLong).view({2, 7});
    const auto masked =
        ClipTextForward(config.text, weights, ClipTokenEmbeddings(weights, ids), ids, mask);
    CheckValues(masked.last_hidden_state[0][5],
                {-1.427156112, 0.520227986, 1.149542168, -0.036525191, -0.334569602, 0.688686952,
                 0.678593741, -1.182097417});
    // Nothing before the end token changes.
    CHECK((masked.pooler_output - text.pooler_output).abs().max().item<double>() < 1e-12);
  }
  SECTION("gelu, legacy end token: the largest id, although id 2 occurs") {
    const ClipConfig config = TinyConfig(2, "gelu");
    const StateDict weights = SineWeights(config);
    const auto text = ClipTextForward(config.text, weights, ClipTokenEmbeddings(weights, ids), ids);
    CHECK(text.last_hidden_state.square().sum().item<double>() == Approx(87.68775494325425));
    CheckValues(ClipTextEmbeds(weights, text.pooler_output),
                {-0.171367932, 0.22814761, -0.277424567, 0.317578315, -0.34728838, 0.365577737,
                 -0.328030709, 0.382759633, -0.424901364, 0.453070055, -0.466339367, 0.464272935});
    const auto vision = ClipVisionForward(config.vision, weights, pixels);
    CheckValues(ClipImageEmbeds(weights, vision.pooler_output),
                {1.090093478, -0.362218588, -0.895195897, 0.843893248, 0.441125459, -1.08124795,
                 1.076777135, -0.367808325, -0.878871904, 0.840699597, 0.426519862, -1.070195521});
  }
}

TEST_CASE("text attention is causal and batches do not mix") {
  const ClipConfig config = TinyConfig(19, "quick_gelu");
  const StateDict weights = SineWeights(config);
  at::Tensor ids = Ids();
  const auto before = ClipTextForward(config.text, weights, ClipTokenEmbeddings(weights, ids), ids);
  ids[1][4] = 12;
  const auto after = ClipTextForward(config.text, weights, ClipTokenEmbeddings(weights, ids), ids);
  const at::Tensor change = (after.last_hidden_state - before.last_hidden_state).abs().amax({2});
  CHECK(change[0].max().item<double>() == 0);
  CHECK(change[1].narrow(0, 0, 4).max().item<double>() < 1e-12);
  CHECK(change[1].narrow(0, 4, 3).min().item<double>() > 1e-6);
}

// Sees every linear layer; adds x D^T to the patch embedding's answer where D is given.
class SeeingHooks : public LayerHooks {
 public:
  explicit SeeingHooks(at::Tensor patch_change = {}) : change_(std::move(patch_change)) {}
  bool WantsLinear(const std::string&) const override { return true; }
  at::Tensor OnLinear(const std::string& name, const at::Tensor& x, at::Tensor y) override {
    seen.push_back(name);
    const bool patch = name == "vision_model.embeddings.patch_embedding";
    return patch && change_.defined() ? y + x.matmul(change_.t()) : y;
  }
  std::vector<std::string> seen;

 private:
  at::Tensor change_;
};

TEST_CASE("hooks see every linear layer of both towers, and nothing changes when they do nothing") {
  const ClipConfig config = TinyConfig(19, "quick_gelu");
  const StateDict weights = SineWeights(config);
  const at::Tensor ids = Ids(), tokens = ClipTokenEmbeddings(weights, ids);
  SeeingHooks hooks;
  const auto text = ClipTextForward(config.text, weights, tokens, ids, {}, &hooks);
  CHECK(at::equal(text.last_hidden_state,
                  ClipTextForward(config.text, weights, tokens, ids).last_hidden_state));
  CHECK(hooks.seen.size() == 2 * 6);
  CHECK(hooks.seen[0] == "text_model.encoder.layers.0.self_attn.q_proj");
  hooks.seen.clear();
  const at::Tensor pixels = SineTensor({2, 3, 8, 8}, 3);
  const at::Tensor plain = ClipVisionForward(config.vision, weights, pixels).pooler_output;
  CHECK(at::equal(ClipVisionForward(config.vision, weights, pixels, &hooks).pooler_output, plain));
  CHECK(hooks.seen.size() == 1 + 2 * 6);
  CHECK(hooks.seen[0] == "vision_model.embeddings.patch_embedding");

  // The patch embedding as a linear layer: the same change as in the convolution's weight.
  const std::string name = "vision_model.embeddings.patch_embedding.weight";
  const at::Tensor change = SineTensor(weights.Get(name).sizes(), 5) * 0.2;
  StateDict changed = weights;
  changed.Set(name, weights.Get(name) + change);
  SeeingHooks patch(change.flatten(1));
  const at::Tensor expected = ClipVisionForward(config.vision, changed, pixels).pooler_output;
  CHECK((expected - plain).abs().max().item<double>() > 1e-3);
  CHECK((ClipVisionForward(config.vision, weights, pixels, &patch).pooler_output - expected)
            .abs()
            .max()
            .item<double>() < 1e-12);
}

TEST_CASE("too many tokens and images of a wrong size are refused") {
  const ClipConfig config = TinyConfig(19, "gelu");
  const StateDict weights = SineWeights(config);
  const at::Tensor ids = at::zeros({1, 8}, at::kLong);
  CHECK_THROWS_WITH(ClipTextForward(config.text, weights, ClipTokenEmbeddings(weights, ids), ids),
                    Catch::Contains("8 tokens"));
  CHECK_THROWS_WITH(
      ClipVisionForward(config.vision, weights, at::zeros({1, 3, 12, 12}, at::kDouble)),
      Catch::Contains("ClipPreprocess"));
}

TEST_CASE("gradients reach prompts, pixels and weights of CLIP") {
  UseOneThreadPerWorker();
  const ClipConfig config = TinyConfig(19, "quick_gelu");
  const StateDict weights = SineWeights(config);
  const at::Tensor ids = Ids().narrow(0, 0, 1);
  at::Tensor embeddings = ClipTokenEmbeddings(weights, ids).detach().clone();
  auto text = [&] {
    return ClipTextEmbeds(weights,
                          ClipTextForward(config.text, weights, embeddings, ids).pooler_output);
  };
  CHECK(GradientError(text, {embeddings, weights.Get("text_projection.weight")}) < 1e-6);
  const at::Tensor pixels = SineTensor({1, 3, 8, 8}, 5);
  auto vision = [&] {
    return ClipImageEmbeds(weights,
                           ClipVisionForward(config.vision, weights, pixels).pooler_output);
  };
  CHECK(GradientError(vision, {pixels, weights.Get("vision_model.embeddings.class_embedding")}) <
        1e-6);
}

TEST_CASE("a tower that computes only what is pooled gives the whole tower's pooled states") {
  UseOneThreadPerWorker();
  for (const int64_t end : {19, 2}) {
    const ClipConfig config = TinyConfig(end, "quick_gelu");
    const StateDict weights = SineWeights(config);
    const at::Tensor ids = Ids();
    at::Tensor tokens = ClipTokenEmbeddings(weights, ids).detach().clone();
    at::Tensor pixels = SineTensor({2, 3, 8, 8}, 5);
    tokens.requires_grad_(true);
    pixels.requires_grad_(true);
    const auto compare = [](const at::Tensor& whole, const at::Tensor& pooled,
                            const at::Tensor& leaf) {
      CHECK(whole.sizes() == pooled.sizes());
      CHECK((whole - pooled).abs().max().item<double>() < 1e-12);
      const at::Tensor probe = SineTensor(whole.sizes().vec(), 7);
      const at::Tensor one = Gradients((whole * probe).sum(), {leaf})[0];
      const at::Tensor two = Gradients((pooled * probe).sum(), {leaf})[0];
      CHECK(one.norm().item<double>() > 1e-3);
      CHECK((one - two).abs().max().item<double>() < 1e-12);
    };
    compare(ClipTextForward(config.text, weights, tokens, ids).pooler_output,
            ClipTextPooled(config.text, weights, tokens, ids), tokens);
    compare(ClipVisionForward(config.vision, weights, pixels).pooler_output,
            ClipVisionPooled(config.vision, weights, pixels), pixels);
  }
}

TEST_CASE("preprocessing resizes like Pillow and normalises") {
  ClipVisionConfig config;
  const at::Tensor mean = at::tensor({0.48145466, 0.4578275, 0.40821073}).view({1, 3, 1, 1});
  const at::Tensor deviation = at::tensor({0.26862954, 0.26130258, 0.27577711}).view({1, 3, 1, 1});
  SECTION("an image of the model's size is only normalised") {
    config.image_size = 5;
    const at::Tensor image = SineTensor({2, 3, 5, 5}, 1).abs();
    const at::Tensor expected = (image - mean) / deviation;
    CHECK((ClipPreprocess(config, image) - expected).abs().max().item<double>() < 1e-6);
  }
  SECTION("a constant stays constant at any size") {
    config.image_size = 6;
    const at::Tensor image = at::full({1, 3, 17, 9}, 0.25, at::kDouble);
    const at::Tensor out = ClipPreprocess(config, image);
    REQUIRE(out.sizes() == at::IntArrayRef({1, 3, 6, 6}));
    CHECK((out - (0.25 - mean) / deviation).abs().max().item<double>() < 1e-5);
  }
  SECTION("bicubic with antialiasing, floor of the long edge and centre crop") {
    // Pillow 13.0.0: Image.resize((8, 12), BICUBIC) of this 14 x 22 picture, rows 2 to 9, red.
    const int kExpected[8][8] = {
        {125, 122, 117, 156, 179, 122, 151, 98},  {151, 82, 133, 145, 109, 70, 104, 144},
        {64, 129, 161, 109, 158, 116, 100, 127},  {89, 118, 92, 141, 146, 82, 132, 83},
        {145, 128, 100, 102, 117, 151, 114, 128}, {138, 109, 107, 90, 206, 130, 59, 154},
        {88, 94, 175, 106, 202, 162, 124, 143},   {118, 136, 128, 168, 166, 118, 130, 139}};
    at::Tensor image = at::zeros({1, 3, 22, 14}, at::kFloat);
    for (int k = 0; k < 3; ++k) {
      for (int r = 0; r < 22; ++r) {
        for (int c = 0; c < 14; ++c) {
          const int value = (r * 37 + c * 91 + k * 53 + (r * c * 7) % 29 * 5) % 256;
          image[0][k][r][c] = value / 255.0;
        }
      }
    }
    config.image_size = 8;
    const at::Tensor out = ClipPreprocess(config, image) * deviation + mean;
    REQUIRE(out.sizes() == at::IntArrayRef({1, 3, 8, 8}));
    for (int r = 0; r < 8; ++r) {
      for (int c = 0; c < 8; ++c) {
        CHECK(std::abs(out[0][0][r][c].item<double>() * 255 - kExpected[r][c]) < 1.5);
      }
    }
  }
  SECTION("the gradient passes through") {
    config.image_size = 4;
    const at::Tensor image = SineTensor({1, 3, 9, 7}, 1) * 0.2 + 0.5;
    CHECK(GradientError([&] { return ClipPreprocess(config, image); }, {image}) < 1e-6);
  }
}

TEST_CASE("configurations of the three kinds of folder, with transformers' defaults") {
  const ClipConfig full = ParseClipConfig(Json::parse(R"({"model_type":"clip","projection_dim":64,
      "text_config":{"hidden_size":32,"num_attention_heads":4,"eos_token_id":2},
      "vision_config":{"hidden_act":"gelu","patch_size":16}})"),
                                          "c");
  CHECK(full.projection_dim == 64);
  CHECK(full.text.hidden_size == 32);
  CHECK(full.text.eos_token_id == 2);
  CHECK(full.text.vocab_size == 49408);
  CHECK(full.text.hidden_act == "quick_gelu");
  CHECK(full.text.layer_norm_eps == 1e-5);
  CHECK(full.vision.hidden_act == "gelu");
  CHECK(full.vision.num_attention_heads == 12);
  CHECK(ClipConfigToJson(ParseClipConfig(ClipConfigToJson(full), "again")) ==
        ClipConfigToJson(full));

  const ClipConfig text = ParseClipConfig(
      Json::parse(R"({"model_type":"clip_text_model","hidden_size":768,"num_attention_heads":12,
                      "projection_dim":768,"hidden_act":"gelu"})"),
      "t");
  CHECK(text.text.hidden_size == 768);
  CHECK(text.text.eos_token_id == 49407);
  CHECK(text.projection_dim == 768);
  const ClipConfig vision = ParseClipConfig(
      Json::parse(R"({"model_type":"clip_vision_model","image_size":336,"patch_size":14})"), "v");
  CHECK(vision.vision.image_size == 336);
  // As in openai/clip-vit-large-patch14: the *_dict section counts.
  const ClipConfig both = ParseClipConfig(Json::parse(R"({"model_type":"clip",
      "text_config":{"hidden_size":512},"vision_config_dict":null,
      "text_config_dict":{"hidden_size":768,"num_attention_heads":12}})"),
                                          "b");
  CHECK(both.text.hidden_size == 768);
}

TEST_CASE("what this implementation cannot do is refused by name") {
  auto parse = [](const char* text) { return ParseClipConfig(Json::parse(text), "config.json"); };
  CHECK_THROWS_WITH(parse(R"({"model_type":"clip_text_model","hidden_act":"gelu_new"})"),
                    Catch::Contains("gelu_new") && Catch::Contains("config.json"));
  CHECK_THROWS_WITH(parse(R"({"model_type":"siglip"})"), Catch::Contains("siglip"));
  CHECK_THROWS_AS(parse(R"({})"), Error);
  CHECK_THROWS_AS(parse(R"([])"), Error);
  CHECK_THROWS_AS(parse(R"({"model_type":"clip","text_config":3})"), Error);
  CHECK_THROWS_WITH(parse(R"({"model_type":"clip_text_model","hidden_size":10})"),
                    Catch::Contains("num_attention_heads"));
  CHECK_THROWS_AS(parse(R"({"model_type":"clip_text_model","hidden_size":-8})"), Error);
  CHECK_THROWS_AS(parse(R"({"model_type":"clip_text_model","hidden_size":"8"})"), Error);
  CHECK_THROWS_AS(parse(R"({"model_type":"clip_vision_model","num_channels":4})"), Error);
  CHECK_THROWS_AS(parse(R"({"model_type":"clip_vision_model","patch_size":225})"), Error);
}

TEST_CASE("fresh weights have transformers' names, shapes and deviations") {
  ClipConfig config = TinyConfig(19, "gelu");
  config.text.hidden_size = 64;
  config.text.intermediate_size = 256;
  config.text.vocab_size = 300;
  const StateDict weights = InitClip(config, 3);
  CHECK(weights.size() == 78);  // as CLIPModel.state_dict() of transformers 5.23.0
  auto deviation = [&](const std::string& name) {
    return weights.Get(name).square().mean().sqrt().item<double>();
  };
  const std::string layer = "text_model.encoder.layers.1.";
  CHECK(deviation("text_model.embeddings.token_embedding.weight") == Approx(0.02).epsilon(0.03));
  CHECK(deviation(layer + "self_attn.q_proj.weight") == Approx(0.125 / 2).epsilon(0.05));
  CHECK(deviation(layer + "self_attn.out_proj.weight") == Approx(0.125).epsilon(0.05));
  CHECK(deviation(layer + "mlp.fc1.weight") == Approx(1 / std::sqrt(128.0)).epsilon(0.05));
  CHECK(deviation(layer + "mlp.fc2.weight") == Approx(0.125 / 2).epsilon(0.05));
  CHECK(deviation(layer + "mlp.fc1.bias") == 0);
  CHECK(weights.Get("logit_scale").item<double>() == Approx(2.6592));
  CHECK(weights.Get("logit_scale").dim() == 0);
  CHECK(weights.Get("vision_model.embeddings.position_embedding.weight").sizes() ==
        at::IntArrayRef({5, 12}));
  CHECK(weights.Get("visual_projection.weight").sizes() == at::IntArrayRef({6, 12}));
  CHECK_FALSE(weights.Contains("vision_model.embeddings.patch_embedding.bias"));
}

}  // namespace
}  // namespace excise
