// Hooks on the U-Net's convolutions.
#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <map>

#include "models/nets/nn.h"
#include "models/nets/unet.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

UNetConfig Tiny(bool linear_projection) {
  UNetConfig config;
  config.block_out_channels = {8, 16};
  config.down_block_types = {"CrossAttnDownBlock2D", "DownBlock2D"};
  config.up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D"};
  config.layers_per_block = 1;
  config.cross_attention_dim = 6;
  config.norm_num_groups = 4;
  config.num_heads = {2, 4};
  config.sample_size = 8;
  config.use_linear_projection = linear_projection;
  return config;
}

at::Tensor Run(const UNetConfig& config, const StateDict& weights, LayerHooks* hooks) {
  return UNetForward(config, weights, nn::InitNormal({2, 4, 8, 8}, 1, 1, "sample"),
                     at::tensor({981, 17}, at::kLong), nn::InitNormal({2, 5, 6}, 1, 1, "states"),
                     hooks);
}

// Keeps copies of what it saw, and the tensors themselves.
class Observer : public LayerHooks {
 public:
  bool WantsConvolution(const std::string&) const override { return true; }
  at::Tensor OnConvolution(const std::string& name, const at::Tensor& x, at::Tensor y) override {
    inputs[name] = x.sizes().vec();
    kept[name] = y;
    copies[name] = y.clone();
    return y;
  }
  std::map<std::string, std::vector<int64_t>> inputs;
  std::map<std::string, at::Tensor> kept, copies;
};

// Adds the convolution by `change` to one layer's answer.
class AddsTo : public LayerHooks {
 public:
  AddsTo(std::string name, at::Tensor change, int64_t stride, int64_t padding)
      : name_(std::move(name)), change_(std::move(change)), stride_(stride), padding_(padding) {}
  bool WantsConvolution(const std::string& name) const override { return name == name_; }
  at::Tensor OnConvolution(const std::string&, const at::Tensor& x, at::Tensor y) override {
    return y + at::conv2d(x, change_, {}, {stride_, stride_}, {padding_, padding_});
  }

 private:
  std::string name_;
  at::Tensor change_;
  int64_t stride_, padding_;
};

}  // namespace

TEST_CASE(
    "hooks see every convolution of the U-Net, may keep it, and the identity changes no bit") {
  const NoGrad no_grad;
  const bool linear_projection = GENERATE(false, true);
  const UNetConfig config = Tiny(linear_projection);
  const StateDict weights = InitUNet(config, 4);
  Observer observer;
  CHECK(Run(config, weights, &observer).equal(Run(config, weights, nullptr)));
  size_t convolutions = 0;
  for (const auto& [name, tensor] : weights) {
    if (tensor.dim() != 4) continue;
    ++convolutions;
    const std::string layer = name.substr(0, name.size() - std::string(".weight").size());
    INFO(layer);
    REQUIRE(observer.inputs.count(layer) == 1);
    CHECK(observer.inputs[layer][1] == tensor.size(1));
    CHECK(observer.kept[layer].size(1) == tensor.size(0));
    CHECK(observer.kept[layer].equal(observer.copies[layer]));
  }
  CHECK(observer.inputs.size() == convolutions);
}

// A convolution is linear in its weight: hook and changed weight are the same model.
TEST_CASE("what a hook adds to a convolution is what the weight plus the change does") {
  const NoGrad no_grad;
  const UNetConfig config = Tiny(false);
  const StateDict weights = InitUNet(config, 4);
  struct Case {
    std::string layer;
    int64_t stride, padding;
  };
  for (const Case& one : {Case{"conv_in", 1, 1}, Case{"down_blocks.0.downsamplers.0.conv", 2, 1},
                          Case{"mid_block.resnets.0.conv1", 1, 1},
                          Case{"mid_block.attentions.0.proj_in", 1, 0}, Case{"conv_out", 1, 1}}) {
    INFO(one.layer);
    const std::string name = one.layer + ".weight";
    const at::Tensor change = nn::InitNormal(weights.Get(name).sizes(), 0.3, 5, name);
    AddsTo hook(one.layer, change, one.stride, one.padding);
    StateDict changed = weights;
    changed.Set(name, weights.Get(name) + change);
    const at::Tensor by_hook = Run(config, weights, &hook);
    CHECK(by_hook.allclose(Run(config, changed, nullptr), 1e-4, 1e-5));
    CHECK_FALSE(by_hook.allclose(Run(config, weights, nullptr), 1e-3, 1e-3));
  }
}

}  // namespace excise
