#include "models/nets/unet.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "models/nets/layers.h"
#include "models/nets/nn.h"
#include "models/nets/unet_blocks.h"
#include "models/tensors/autograd.h"
#include "tests/testdata.h"

namespace excise {
namespace {

UNetConfig Tiny() {
  UNetConfig config;
  config.block_out_channels = {8, 16};
  config.down_block_types = {"CrossAttnDownBlock2D", "DownBlock2D"};
  config.up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D"};
  config.layers_per_block = 1;
  config.cross_attention_dim = 6;
  config.norm_num_groups = 4;
  config.num_heads = {2, 4};
  config.sample_size = 8;
  return config;
}

struct Inputs {
  at::Tensor sample = nn::InitNormal({2, 4, 8, 8}, 1, 1, "sample");
  at::Tensor states = nn::InitNormal({2, 5, 6}, 1, 1, "states");
  at::Tensor timestep = at::tensor({981, 17}, at::kLong);
};

int64_t NumParameters(const LayerList& layers) {
  int64_t total = 0;
  for (const LayerSpec& spec : layers.specs()) {
    int64_t n = 1;
    for (const int64_t size : spec.shape) n *= size;
    total += n + (spec.bias ? spec.shape[0] : 0);
  }
  return total;
}

// Sees everything and changes nothing; remembers what it saw.
class Observer : public LayerHooks {
 public:
  bool WantsLinear(const std::string&) const override { return true; }
  bool WantsAttention(const std::string&) const override { return true; }
  bool WantsProbabilities(const std::string&) const override { return true; }
  bool WantsSkips() const override { return true; }
  at::Tensor OnLinear(const std::string& name, const at::Tensor& x, at::Tensor y) override {
    linears[name] = {x.size(-1), y.size(-1)};
    return y;
  }
  void OnAttention(const std::string& name, at::Tensor* q, at::Tensor* k, at::Tensor* v) override {
    queries[name] = q->sizes().vec();
    keys[name] = k->sizes().vec();
    CHECK(k->sizes() == v->sizes());
  }
  at::Tensor OnProbabilities(const std::string& name, at::Tensor p) override {
    probabilities[name] = p.sizes().vec();
    CHECK(at::allclose(p.sum(-1), at::ones({1})));
    return p;
  }
  at::Tensor OnAttentionOutput(const std::string& name, at::Tensor output) override {
    outputs[name] = output.sizes().vec();
    return output;
  }
  void OnSkip(int64_t block, at::Tensor* hidden, at::Tensor* skip) override {
    skips.push_back({block, hidden->size(1), skip->size(1), skip->size(2)});
    CHECK(hidden->size(2) == skip->size(2));
  }

  using Shape = std::vector<int64_t>;
  std::map<std::string, Shape> linears, queries, keys, probabilities, outputs;
  std::vector<Shape> skips;
};

// Doubles the values of one cross attention.
class Doubler : public LayerHooks {
 public:
  explicit Doubler(std::string name) : name_(std::move(name)) {}
  bool WantsAttention(const std::string& name) const override { return name == name_; }
  void OnAttention(const std::string&, at::Tensor*, at::Tensor*, at::Tensor* v) override {
    *v = *v * 2;
  }

 private:
  std::string name_;
};

}  // namespace

TEST_CASE("parameter counts of Stable Diffusion's U-Nets") {
  // Published: 860 M for Stable Diffusion 1, 866 M for 2; exact counts of diffusers' models.
  const UNetConfig one = ParseUNetConfig(Json{{"cross_attention_dim", 768}}, "sd1");
  CHECK(NumParameters(UNetLayers(one)) == 859'520'964);
  const UNetConfig two = ParseUNetConfig(Json{{"cross_attention_dim", 1024},
                                              {"attention_head_dim", {5, 10, 20, 20}},
                                              {"use_linear_projection", true}},
                                         "sd2");
  CHECK(NumParameters(UNetLayers(two)) == 865'910'724);
  CHECK(two.num_heads == std::vector<int64_t>{5, 10, 20, 20});
  CHECK(one.num_heads == std::vector<int64_t>{8, 8, 8, 8});
}

TEST_CASE("U-Net config.json: round trip, defaults, refusals") {
  const Json json = UNetConfigToJson(Tiny());
  CHECK(UNetConfigToJson(ParseUNetConfig(json, "x")) == json);

  Json with_defaults = json;
  with_defaults["_diffusers_version"] = "0.42.1";
  with_defaults["_name_or_path"] = 3;
  with_defaults["dropout"] = 0.0;
  with_defaults["class_embed_type"] = nullptr;
  with_defaults["conv_in_kernel"] = 3;
  with_defaults["only_cross_attention"] = {false, false};
  with_defaults["sample_size"] = {8, 8};
  with_defaults["attention_head_dim"] = 2;
  CHECK(ParseUNetConfig(with_defaults, "x").num_heads == std::vector<int64_t>{2, 2});
  with_defaults["num_attention_heads"] = {1, 2};
  CHECK(ParseUNetConfig(with_defaults, "x").num_heads == std::vector<int64_t>{1, 2});

  const auto refuses = [&](const char* key, const Json& value) {
    Json changed = json;
    changed[key] = value;
    CAPTURE(key, value.dump());
    CHECK_THROWS_WITH(ParseUNetConfig(changed, "u.json"),
                      Catch::Contains("u.json") && Catch::Contains(key));
  };
  refuses("class_embed_type", "timestep");
  refuses("addition_embed_type", "text_time");
  refuses("time_cond_proj_dim", 256);
  refuses("encoder_hid_dim", 768);
  refuses("mid_block_type", "UNetMidBlock2D");
  refuses("only_cross_attention", {false, true});
  refuses("only_cross_attention", true);
  refuses("resnet_time_scale_shift", "scale_shift");
  refuses("act_fn", "gelu");
  refuses("dual_cross_attention", true);
  refuses("dropout", 0.1);
  refuses("down_block_types", {"CrossAttnDownBlock2D", "AttnDownBlock2D"});
  refuses("up_block_types", {"UpBlock2D"});
  refuses("attention_head_dim", {1, 2, 4});
  refuses("attention_head_dim", 3);  // 8 channels are no multiple of 3
  refuses("layers_per_block", {1, 2});
  refuses("transformer_layers_per_block", {1, 2});
  refuses("norm_num_groups", 5);
  refuses("block_out_channels", {8, "16"});
  refuses("in_channels", -4);
  refuses("upcast_attention", "yes");
  refuses("image_size", 64);
  CHECK_THROWS_AS(ParseUNetConfig(Json::array(), "u.json"), Error);
}

TEST_CASE("hooks see every layer with its shape, and the identity changes no bit") {
  NoGrad no_grad;
  const UNetConfig config = Tiny();
  const StateDict weights = InitUNet(config, 3);
  const Inputs in;
  Observer observer;
  const at::Tensor plain = UNetForward(config, weights, in.sample, in.timestep, in.states);
  const at::Tensor hooked =
      UNetForward(config, weights, in.sample, in.timestep, in.states, &observer);
  CHECK(plain.sizes() == in.sample.sizes());
  CHECK(at::equal(plain, hooked));

  // Every 2-d weight is a linear layer, and every one of them was seen with its widths.
  std::set<std::string> expected;
  for (const LayerSpec& spec : UNetLayers(config).specs()) {
    if (spec.shape.size() != 2) continue;
    CAPTURE(spec.prefix);
    REQUIRE(observer.linears.count(spec.prefix) == 1);
    CHECK(observer.linears[spec.prefix] == Observer::Shape{spec.shape[1], spec.shape[0]});
    expected.insert(spec.prefix);
  }
  CHECK(observer.linears.size() == expected.size());

  // One transformer below, one in the middle, two above, each with two attentions.
  CHECK(observer.queries.size() == 8);
  CHECK(observer.probabilities.size() == 8);
  const std::string block = "down_blocks.0.attentions.0.transformer_blocks.0.";
  CHECK(observer.queries[block + "attn1"] == Observer::Shape{2, 2, 64, 4});
  CHECK(observer.keys[block + "attn1"] == Observer::Shape{2, 2, 64, 4});
  CHECK(observer.keys[block + "attn2"] == Observer::Shape{2, 2, 5, 4});
  CHECK(observer.probabilities[block + "attn2"] == Observer::Shape{2, 2, 64, 5});
  CHECK(observer.outputs[block + "attn2"] == Observer::Shape{2, 64, 8});
  const std::string middle = "mid_block.attentions.0.transformer_blocks.0.attn2";
  CHECK(observer.queries[middle] == Observer::Shape{2, 4, 16, 4});

  // Pushed: conv_in 8, resnet 8, downsampler 8 (4x4), resnet 16; popped in reverse.
  const std::vector<Observer::Shape> skips{
      {0, 16, 16, 4}, {0, 16, 8, 4}, {1, 16, 8, 8}, {1, 8, 8, 8}};
  CHECK(observer.skips == skips);
}

TEST_CASE("doubling the values of a cross attention equals doubling to_v") {
  NoGrad no_grad;
  const UNetConfig config = Tiny();
  const StateDict weights = InitUNet(config, 3);
  const Inputs in;
  const std::string layer = "up_blocks.1.attentions.1.transformer_blocks.0.attn2";
  Doubler doubler(layer);
  StateDict edited = weights;
  edited.Set(layer + ".to_v.weight", weights.Get(layer + ".to_v.weight") * 2);
  // The copy shares all other tensors.
  size_t shared = 0;
  for (const auto& [name, tensor] : edited) shared += tensor.is_same(weights.Get(name)) ? 1 : 0;
  CHECK(shared == weights.size() - 1);

  const auto run = [&](const StateDict& w, LayerHooks* hooks) {
    return UNetForward(config, w, in.sample, in.timestep, in.states, hooks);
  };
  CHECK(at::equal(run(weights, &doubler), run(edited, nullptr)));
  CHECK_FALSE(at::equal(run(weights, nullptr), run(edited, nullptr)));
}

TEST_CASE("rows of a batch do not influence each other, and a scalar timestep is every row's") {
  NoGrad no_grad;
  const UNetConfig config = Tiny();
  const StateDict weights = InitUNet(config, 3);
  const Inputs in;
  const at::Tensor both = UNetForward(config, weights, in.sample, in.timestep, in.states);
  for (int64_t i = 0; i < 2; ++i) {
    const at::Tensor one = UNetForward(config, weights, in.sample.narrow(0, i, 1), in.timestep[i],
                                       in.states.narrow(0, i, 1));
    CHECK(at::allclose(one, both.narrow(0, i, 1), 1e-5, 1e-6));
  }
  const at::Tensor time = at::tensor({981, 981}, at::kLong);
  CHECK(at::equal(UNetForward(config, weights, in.sample, at::tensor(int64_t{981}), in.states),
                  UNetForward(config, weights, in.sample, time.to(at::kFloat), in.states)));
}

TEST_CASE("the U-Net is differentiable in text states and weights") {
  const UNetConfig config = Tiny();
  StateDict weights;
  for (const auto& [name, tensor] : InitUNet(config, 3)) weights.Set(name, tensor.to(at::kDouble));
  const Inputs in;
  const at::Tensor sample = in.sample.to(at::kDouble);
  const at::Tensor states = in.states.to(at::kDouble).requires_grad_(true);
  const auto loss = [&](const at::Tensor& s) {
    return UNetForward(config, weights, sample, in.timestep, s).square().mean();
  };
  const at::Tensor gradient = Gradients(loss(states), {states}).at(0);
  NoGrad no_grad;
  const at::Tensor direction = nn::InitNormal({2, 5, 6}, 1, 9, "direction").to(at::kDouble);
  const double h = 1e-5;
  const double difference =
      (loss(states + h * direction) - loss(states - h * direction)).item<double>() / (2 * h);
  CHECK((gradient * direction).sum().item<double>() == Approx(difference).epsilon(1e-6));
  CHECK(std::abs(difference) > 1e-9);
}

TEST_CASE("wrong shapes and foreign weights are refused by name") {
  const UNetConfig config = Tiny();
  const StateDict weights = InitUNet(config, 3);
  const Inputs in;
  CHECK_THROWS_WITH(UNetForward(config, weights, in.sample.narrow(1, 0, 3), in.timestep, in.states),
                    Catch::Contains("[2, 3, 8, 8]"));
  CHECK_THROWS_WITH(UNetForward(config, weights, in.sample, in.timestep, in.states.narrow(2, 0, 5)),
                    Catch::Contains("[2, 5, 5]"));
  CHECK_THROWS_WITH(
      UNetForward(config, weights, in.sample, at::tensor({1, 2, 3}, at::kLong), in.states),
      Catch::Contains("timestep"));

  CHECK_NOTHROW(CheckLayers(UNetLayers(config), weights, "folder"));
  UNetConfig wider = config;
  wider.cross_attention_dim = 7;
  CHECK_THROWS_WITH(CheckLayers(UNetLayers(wider), weights, "folder"),
                    Catch::Contains("attn2.to_k.weight") && Catch::Contains("[8, 7]"));
  UNetConfig deeper = config;
  deeper.layers_per_block = 2;
  CHECK_THROWS_WITH(CheckLayers(UNetLayers(deeper), weights, "folder"),
                    Catch::Contains("down_blocks.0.resnets.1") && Catch::Contains("missing"));
  StateDict more = weights;
  more.Set("down_blocks.0.attentions.0.lora.weight", at::zeros({1}));
  CHECK_THROWS_WITH(CheckLayers(UNetLayers(config), more, "folder"),
                    Catch::Contains("unexpected tensor 'down_blocks.0.attentions.0.lora.weight'"));
}

TEST_CASE("initial weights depend on the seed and the name only") {
  const StateDict a = InitUNet(Tiny(), 3), b = InitUNet(Tiny(), 3), c = InitUNet(Tiny(), 4);
  for (const auto& [name, tensor] : a) CHECK(at::equal(tensor, b.Get(name)));
  CHECK_FALSE(at::equal(a.Get("conv_in.weight"), c.Get("conv_in.weight")));
  // U(+-1/sqrt(fan_in)), fan_in = 4 * 9.
  const at::Tensor conv = a.Get("conv_in.weight");
  CHECK(conv.abs().max().item<double>() <= 1.0 / 6);
  CHECK(conv.abs().max().item<double>() > 0.15);
}

TEST_CASE("timestep embedding: diffusers' hard-coded values") {
  const auto path = SharedFile("goldens/layer_goldens.json");
  if (!path) {
    WARN("goldens/layer_goldens.json is not here: set EXCISE_SHARED; nothing was compared");
    return;
  }
  const Json goldens = ReadJsonFile(*path);
  const Json& expected = goldens["tests"][0]["expected"];
  REQUIRE(goldens["tests"][0]["test"] == "EmbeddingsTests.test_sinoid_embeddings_hardcoded");
  const at::Tensor times = at::arange(128, at::kLong);
  const at::Tensor shifted = TimestepEmbedding(times, 64, false, 1);
  const at::Tensor flipped = TimestepEmbedding(times, 64, true, 0);
  for (int64_t i = 0; i < 9; ++i) {
    const int64_t row = 23 + i / 3, column = 47 + i % 3;
    CHECK(shifted[row][column].item<double>() ==
          Approx(expected[0][static_cast<size_t>(i)].get<double>()).margin(1e-3));
    CHECK(flipped[row][column].item<double>() ==
          Approx(expected[1][static_cast<size_t>(i)].get<double>()).margin(1e-3));
  }
}

TEST_CASE("residual block: diffusers' hard-coded values") {
  const auto path = SharedFile("goldens/layer_goldens.json");
  if (!path) {
    WARN("goldens/layer_goldens.json is not here: set EXCISE_SHARED; nothing was compared");
    return;
  }
  NoGrad no_grad;
  // PyTorch's CPU generator seeded with 0: inputs first, then the layers in the order of their
  // construction.
  at::Generator generator = at::detail::createCPUGenerator(0);
  const at::Tensor x = at::randn({1, 32, 64, 64}, generator);
  const at::Tensor time = at::randn({1, 128}, generator);
  StateDict weights;
  const auto layer = [&](const std::string& name, std::vector<int64_t> shape, int64_t fan_in) {
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
    weights.Set(name + ".weight", at::empty(shape).uniform_(-bound, bound, generator));
    weights.Set(name + ".bias", at::empty({shape[0]}).uniform_(-bound, bound, generator));
  };
  layer("r.conv1", {32, 32, 3, 3}, 288);
  layer("r.time_emb_proj", {32, 128}, 128);
  layer("r.conv2", {32, 32, 3, 3}, 288);
  nn::InitNorm(&weights, "r.norm1", 32);
  nn::InitNorm(&weights, "r.norm2", 32);
  const at::Tensor y =
      ResnetBlock(weights, "r", x, nn::Activation("silu", time), /*groups=*/32, /*eps=*/1e-6);

  const Json goldens = ReadJsonFile(*path);
  for (const Json& test : goldens["tests"]) {
    if (test["test"] != "ResnetBlock2DTests.test_resnet_default") continue;
    for (int64_t i = 0; i < 9; ++i) {
      CHECK(y[0][31][61 + i / 3][61 + i % 3].item<double>() ==
            Approx(test["expected"][0][static_cast<size_t>(i)].get<double>()).margin(1e-3));
    }
    return;
  }
  FAIL("the golden file has no ResnetBlock2DTests.test_resnet_default");
}

}  // namespace excise
