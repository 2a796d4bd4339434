#include "models/nets/attention_maps.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/nets/unet.h"
#include "models/tensors/autograd.h"
#include "tests/testdata.h"

namespace excise {
namespace {

UNetConfig Tiny() {
  UNetConfig config;
  config.block_out_channels = {8, 16};
  config.down_block_types = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D"};
  config.up_block_types = {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D"};
  config.layers_per_block = 1;
  config.cross_attention_dim = 6;
  config.norm_num_groups = 4;
  config.num_heads = {2, 4};
  config.sample_size = 8;
  return config;
}

// Keeps q and k of every cross-attention.
class KeepQueries : public LayerHooks {
 public:
  bool WantsAttention(const std::string& name) const override {
    return name.find("attn2") != std::string::npos;
  }
  void OnAttention(const std::string& name, at::Tensor* q, at::Tensor* k, at::Tensor*) override {
    seen[name] = {*q, *k};
  }
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> seen;
};

struct Pass {
  UNetConfig config = Tiny();
  StateDict weights = InitUNet(config, 4);
  at::Tensor sample = nn::InitNormal({2, 4, 8, 8}, 1, 1, "sample");
  at::Tensor states = nn::InitNormal({2, 5, 6}, 3, 1, "states");
  at::Tensor Run(LayerHooks* hooks) const {
    return UNetForward(config, weights, sample, at::tensor({981, 17}, at::kLong), states, hooks);
  }
};

}  // namespace

TEST_CASE("a word's tokens are found wherever they stand") {
  const auto tokenizer = Tokenizer::Load(RepoFile("tests/fixtures/sd1/tokenizer"));
  REQUIRE(tokenizer->Encode("poodle").size() == 1);
  REQUIRE(tokenizer->Encode("a picture of").size() == 3);
  using Positions = std::vector<int64_t>;
  CHECK(WordPositions(*tokenizer, "a picture of a poodle", "poodle") == Positions{5});
  CHECK(WordPositions(*tokenizer, "Poodle, poodle", "poodle") == Positions{1, 3});
  CHECK(WordPositions(*tokenizer, "a picture of a picture", "a picture") == Positions{1, 2, 4, 5});
  CHECK_THROWS_WITH(WordPositions(*tokenizer, "a dog", "poodle"), Catch::Contains("'poodle'"));
  CHECK_THROWS_AS(WordPositions(*tokenizer, "a dog", ""), Error);
}

// softmax(q k^T / sqrt(d)), number by number from the q and k of each layer.
TEST_CASE("maps are the probabilities of their words, by layer") {
  const NoGrad no_grad;
  const Pass pass;
  KeepQueries queries;
  pass.Run(&queries);
  AttentionMaps maps({3, 1});
  const at::Tensor answer = pass.Run(&maps);
  CHECK((answer - pass.Run(nullptr)).abs().max().item<double>() < 1e-5);  // changes nothing
  REQUIRE(maps.layers().size() == queries.seen.size());
  REQUIRE(maps.layers().size() == 7);  // 2 going down, 1 in the middle, 4 going up
  std::map<int64_t, int> sizes;
  for (const auto& [name, map] : maps.layers()) {
    INFO(name);
    const at::Tensor q = queries.seen.at(name).first.to(at::kDouble);
    const at::Tensor k = queries.seen.at(name).second.to(at::kDouble);
    const at::Tensor e =
        (at::matmul(q, k.transpose(-2, -1)) / std::sqrt(static_cast<double>(q.size(-1)))).exp();
    REQUIRE(map.sizes() == at::IntArrayRef({2, q.size(1), q.size(2), 2}));
    const at::Tensor sum = e.sum(-1);
    CHECK((map.select(-1, 0) - e.select(-1, 3) / sum).abs().max().item<double>() < 1e-5);
    CHECK((map.select(-1, 1) - e.select(-1, 1) / sum).abs().max().item<double>() < 1e-5);
    ++sizes[map.size(2)];
  }
  CHECK(sizes == std::map<int64_t, int>{{64, 3}, {16, 4}});

  const at::Tensor mean = maps.MeanMap(8, 8);
  REQUIRE(mean.sizes() == at::IntArrayRef({2, 8, 8}));
  double by_hand = 0;  // of the second picture's pixel in row 1, column 2
  for (const auto& [name, map] : maps.layers()) {
    if (map.size(2) != 64) continue;
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t word = 0; word < 2; ++word) {
        by_hand += map[1][head][10][word].item<double>() / (3 * 2 * 2);
      }
    }
  }
  CHECK(mean[1][1][2].item<double>() == Approx(by_hand).epsilon(1e-5));
  CHECK_THROWS_WITH(maps.MeanMap(16, 16), Catch::Contains("16 x 16"));
}

TEST_CASE("gradients pass through maps") {
  Pass pass;
  pass.states.requires_grad_(true);
  AttentionMaps maps({2});
  pass.Run(&maps);
  const at::Tensor gradient = Gradients(maps.MeanMap(4, 4).sum(), {pass.states})[0];
  CHECK(gradient.abs().max().item<double>() > 1e-6);
}

TEST_CASE("a region at a layer's size is the share of each pixel") {
  at::Tensor region = at::zeros({1, 4, 4}, at::kDouble);
  region.narrow(1, 0, 2).narrow(2, 0, 1).fill_(1);  // half of the first quarter
  region[0][3][3] = 1;
  CHECK(RegionAt(region, 16).equal(region.flatten(1)));
  CHECK(RegionAt(region, 4).equal(at::tensor({0.5, 0., 0., 0.25}, at::kDouble).unsqueeze(0)));
  CHECK(RegionAt(region, 1).item<double>() == 3.0 / 16);
  CHECK(RegionAt(at::zeros({1, 4, 8}), 8).size(1) == 8);
  CHECK_THROWS_WITH(RegionAt(region, 8), Catch::Contains("8 pixels"));
}

TEST_CASE("a word's region holds the pixels that attend to it most, the same ones at every size") {
  const Pass pass;
  AttentionMaps maps({2, 3});
  const NoGrad no_grad;
  pass.Run(&maps);
  // Layers see 8 x 8 and 4 x 4: no quarter of 8 x 8, so the half of it.
  const at::Tensor mean = maps.MeanMap(4, 4), region = maps.Region(8, 8, 0.6);
  REQUIRE(region.sizes() == at::IntArrayRef({2, 8, 8}));
  for (int64_t picture = 0; picture < 2; ++picture) {
    const double least = mean[picture].min().item<double>();
    const double most = mean[picture].max().item<double>();
    for (int64_t y = 0; y < 8; ++y) {
      for (int64_t x = 0; x < 8; ++x) {
        const double share = (mean[picture][y / 2][x / 2].item<double>() - least) / (most - least);
        CHECK(region[picture][y][x].item<double>() == (share >= 0.6 ? 1 : 0));
      }
    }
  }
  CHECK(maps.Region(8, 8, 0).sum().item<double>() == 2 * 64);
  CHECK(maps.Region(8, 8, 1).sum().item<double>() == 2 * 4);
  CHECK(maps.Region(16, 16, 1).sizes() == at::IntArrayRef({2, 16, 16}));  // a quarter: 4 x 4
}

}  // namespace excise
