#include "models/nets/vae.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "models/nets/layers.h"
#include "models/nets/nn.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

VaeConfig Tiny() {
  VaeConfig config;
  config.block_out_channels = {4, 8};
  config.layers_per_block = 1;
  config.norm_num_groups = 2;
  config.sample_size = 16;
  return config;
}

StateDict With(const StateDict& weights, const std::string& from, const std::string& to,
               bool as_convolution) {
  StateDict result;
  for (const auto& [name, tensor] : weights) {
    const size_t found = name.find("mid_block.attentions.0" + from);
    if (found == std::string::npos) {
      result.Set(name, tensor);
      continue;
    }
    std::string renamed = name;
    renamed.replace(found + std::string("mid_block.attentions.0").size(), from.size(), to);
    const bool squeeze = as_convolution && tensor.dim() == 2;
    result.Set(renamed, squeeze ? tensor.unsqueeze(-1).unsqueeze(-1) : tensor);
  }
  return result;
}

}  // namespace

TEST_CASE("parameter count of Stable Diffusion's VAE") {
  int64_t total = 0;
  for (const LayerSpec& spec : VaeLayers(VaeConfig{}).specs()) {
    int64_t n = 1;
    for (const int64_t size : spec.shape) n *= size;
    total += n + spec.shape[0];
  }
  CHECK(total == 83'653'863);
}

TEST_CASE("VAE config.json: round trip and refusals") {
  const Json json = VaeConfigToJson(Tiny());
  CHECK(VaeConfigToJson(ParseVaeConfig(json, "x")) == json);
  Json more = json;
  more["force_upcast"] = true;
  more["shift_factor"] = nullptr;
  more["_diffusers_version"] = "0.6.0";
  more["use_quant_conv"] = true;
  CHECK(VaeConfigToJson(ParseVaeConfig(more, "x")) == json);
  const auto refuses = [&](const char* key, const Json& value) {
    Json changed = json;
    changed[key] = value;
    CAPTURE(key, value.dump());
    CHECK_THROWS_WITH(ParseVaeConfig(changed, "v.json"),
                      Catch::Contains("v.json") && Catch::Contains(key));
  };
  refuses("act_fn", "relu");
  refuses("shift_factor", 0.1);
  refuses("latents_mean", {0.0});
  refuses("use_quant_conv", false);
  refuses("mid_block_add_attention", false);
  refuses("down_block_types", {"DownEncoderBlock2D", "AttnDownEncoderBlock2D"});
  refuses("up_block_types", {"UpDecoderBlock2D"});
  refuses("scaling_factor", 0.0);
  refuses("norm_num_groups", 3);
  refuses("latent_dim", 4);
}

TEST_CASE("VAE shapes") {
  NoGrad no_grad;
  const VaeConfig config = Tiny();
  const StateDict weights = InitVae(config, 5);
  CHECK_NOTHROW(CheckLayers(VaeLayers(config), weights, "vae"));
  const at::Tensor images = nn::InitNormal({2, 3, 16, 12}, 1, 1, "images");
  const VaeMoments moments = VaeEncode(config, weights, images);
  CHECK(moments.mean.sizes() == at::IntArrayRef({2, 4, 8, 6}));
  CHECK(moments.logvar.sizes() == at::IntArrayRef({2, 4, 8, 6}));
  CHECK(VaeDecode(config, weights, moments.mean).sizes() == images.sizes());
  CHECK_THROWS_WITH(VaeEncode(config, weights, images.narrow(1, 0, 1)),
                    Catch::Contains("[2, 1, 16, 12]"));
  CHECK_THROWS_WITH(VaeDecode(config, weights, images), Catch::Contains("latents"));
}

TEST_CASE("mean and logvar are the halves of the moments; logvar is clamped") {
  NoGrad no_grad;
  const VaeConfig config = Tiny();
  StateDict weights = InitVae(config, 5);
  weights.Set("quant_conv.weight", at::zeros({8, 8, 1, 1}));
  at::Tensor bias = at::zeros({8});
  for (int64_t i = 0; i < 8; ++i) bias[i] = 100.0 * static_cast<double>(i) - 450;
  weights.Set("quant_conv.bias", bias);
  const VaeMoments moments =
      VaeEncode(config, weights, nn::InitNormal({1, 3, 4, 4}, 1, 1, "images"));
  CHECK(moments.mean[0][0][0][0].item<float>() == -450);
  CHECK(moments.mean[0][3][1][1].item<float>() == -150);
  CHECK(moments.logvar[0][0][0][0].item<float>() == -30);
  CHECK(moments.logvar[0][3][1][1].item<float>() == 20);
}

TEST_CASE("old attention names and 1x1 convolutions mean the same model") {
  NoGrad no_grad;
  const VaeConfig config = Tiny();
  const StateDict weights = InitVae(config, 5);
  const at::Tensor latents = nn::InitNormal({1, 4, 4, 4}, 1, 1, "latents");
  const at::Tensor expected = VaeDecode(config, weights, latents);
  for (const bool as_convolution : {false, true}) {
    StateDict old = With(weights, ".to_q", ".query", as_convolution);
    old = With(old, ".to_k", ".key", as_convolution);
    old = With(old, ".to_v", ".value", as_convolution);
    old = With(old, ".to_out.0", ".proj_attn", as_convolution);
    CHECK(old.Contains("decoder.mid_block.attentions.0.proj_attn.bias"));
    CHECK_THROWS_AS(CheckLayers(VaeLayers(config), old, "vae"), Error);
    const StateDict renamed = NormalizeVaeNames(old);
    CHECK_NOTHROW(CheckLayers(VaeLayers(config), renamed, "vae"));
    CHECK(at::equal(VaeDecode(config, renamed, latents), expected));
  }
  for (const auto& [name, tensor] : NormalizeVaeNames(weights)) {
    CHECK(tensor.is_same(weights.Get(name)));
  }
}

TEST_CASE("encoder downsampling pads at the right and bottom only") {
  NoGrad no_grad;
  const VaeConfig config = Tiny();
  const StateDict weights = InitVae(config, 5);
  // A kernel that copies one tap: the first tap of output (0, 0) is input (0, 0) when nothing is
  // padded at the left and top, so no zero can enter; the last tap of the last output is padding.
  const std::string name = "encoder.down_blocks.0.downsamplers.0.conv";
  const at::Tensor images = nn::InitNormal({1, 3, 8, 8}, 1, 1, "images");
  const auto with_tap = [&](int64_t tap) {
    StateDict changed = weights;
    at::Tensor kernel = at::zeros({4, 4, 3, 3});
    for (int64_t c = 0; c < 4; ++c) kernel[c][c][tap][tap] = 1;
    changed.Set(name + ".weight", kernel);
    changed.Set(name + ".bias", at::zeros({4}));
    return VaeEncode(config, changed, images).mean;
  };
  // The reference: the same model with the sampling written out.
  const auto reference = [&](int64_t tap) {
    at::Tensor x = nn::Conv2d(weights, "encoder.conv_in", images, 1, 1);
    const auto resnet = [&](const std::string& prefix, const at::Tensor& in) {
      at::Tensor h = nn::Activation("silu", nn::GroupNorm(weights, prefix + ".norm1", in, 2, 1e-6));
      h = nn::Conv2d(weights, prefix + ".conv1", h, 1, 1);
      h = nn::Activation("silu", nn::GroupNorm(weights, prefix + ".norm2", h, 2, 1e-6));
      h = nn::Conv2d(weights, prefix + ".conv2", h, 1, 1);
      const bool widens = weights.Contains(prefix + ".conv_shortcut.weight");
      return (widens ? nn::Conv2d(weights, prefix + ".conv_shortcut", in) : in) + h;
    };
    x = resnet("encoder.down_blocks.0.resnets.0", x);
    at::Tensor sampled = at::zeros({1, 4, 4, 4});
    for (int64_t i = 0; i < 4; ++i) {
      for (int64_t j = 0; j < 4; ++j) {
        const int64_t row = 2 * i + tap, column = 2 * j + tap;
        if (row > 7 || column > 7) continue;
        for (int64_t c = 0; c < 4; ++c) sampled[0][c][i][j] = x[0][c][row][column];
      }
    }
    x = resnet("encoder.down_blocks.1.resnets.0", sampled);
    x = resnet("encoder.mid_block.resnets.0", x);
    const std::string attention = "encoder.mid_block.attentions.0";
    const at::Tensor tokens =
        nn::GroupNorm(weights, attention + ".group_norm", x, 2, 1e-6).reshape({8, 16}).t();
    const at::Tensor q = nn::Linear(weights, attention + ".to_q", tokens);
    const at::Tensor k = nn::Linear(weights, attention + ".to_k", tokens);
    const at::Tensor v = nn::Linear(weights, attention + ".to_v", tokens);
    const at::Tensor p = (q.mm(k.t()) / std::sqrt(8.0)).softmax(-1);
    x = x + nn::Linear(weights, attention + ".to_out.0", p.mm(v)).t().reshape({1, 8, 4, 4});
    x = resnet("encoder.mid_block.resnets.1", x);
    x = nn::Activation("silu", nn::GroupNorm(weights, "encoder.conv_norm_out", x, 2, 1e-6));
    x = nn::Conv2d(weights, "encoder.conv_out", x, 1, 1);
    return nn::Conv2d(weights, "quant_conv", x).narrow(1, 0, 4);
  };
  for (const int64_t tap : {0, 2}) {
    const at::Tensor expected = reference(tap);
    CHECK((with_tap(tap) - expected).norm().item<double>() < 1e-5 * expected.norm().item<double>());
  }
}

}  // namespace excise
