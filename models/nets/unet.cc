#include "models/nets/unet.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "models/nets/layers.h"
#include "models/nets/nn.h"
#include "models/nets/unet_blocks.h"

namespace excise {
namespace {

// One forward pass: what every block needs, and the stack of skip connections.
class Pass {
 public:
  Pass(const UNetConfig& config, const StateDict& weights, const at::Tensor& time,
       const at::Tensor& states, LayerHooks* hooks)
      : config_(config), weights_(weights), time_(time), states_(states), hooks_(hooks) {
    with_skip_hooks_ = hooks != nullptr && hooks->WantsSkips();
  }

  at::Tensor Down(at::Tensor x) {
    skips_.push_back(x);
    const size_t levels = config_.block_out_channels.size();
    for (size_t i = 0; i < levels; ++i) {
      const std::string block = fmt::format("down_blocks.{}", i);
      const bool attends = config_.down_block_types[i] == "CrossAttnDownBlock2D";
      for (int64_t j = 0; j < config_.layers_per_block; ++j) {
        x = Layer(block, j, x, attends, config_.num_heads[i]);
        skips_.push_back(x);
      }
      if (i + 1 < levels) {
        x = nn::Conv2d(weights_, block + ".downsamplers.0.conv", x, 2, 1, hooks_);
        skips_.push_back(x);
      }
    }
    return x;
  }

  at::Tensor Middle(at::Tensor x) {
    x = Resnet("mid_block.resnets.0", x);
    x = SpatialTransformer(config_, weights_, "mid_block.attentions.0", x, states_,
                           config_.num_heads.back(), hooks_);
    return Resnet("mid_block.resnets.1", x);
  }

  at::Tensor Up(at::Tensor x) {
    const size_t levels = config_.block_out_channels.size();
    for (size_t i = 0; i < levels; ++i) {
      const std::string block = fmt::format("up_blocks.{}", i);
      const bool attends = config_.up_block_types[i] == "CrossAttnUpBlock2D";
      for (int64_t j = 0; j <= config_.layers_per_block; ++j) {
        at::Tensor skip = skips_.back();
        skips_.pop_back();
        if (with_skip_hooks_) hooks_->OnSkip(static_cast<int64_t>(i), &x, &skip);
        x = Layer(block, j, at::cat({x, skip}, 1), attends, config_.num_heads[levels - 1 - i]);
      }
      if (i + 1 < levels) {
        // To the size of the next skip: twice, except for odd sizes further up.
        x = at::upsample_nearest2d(x, {skips_.back().size(2), skips_.back().size(3)});
        x = nn::Conv2d(weights_, block + ".upsamplers.0.conv", x, 1, 1, hooks_);
      }
    }
    return x;
  }

 private:
  at::Tensor Resnet(const std::string& prefix, const at::Tensor& x) {
    return ResnetBlock(weights_, prefix, x, time_, config_.norm_num_groups, config_.norm_eps,
                       hooks_);
  }

  at::Tensor Layer(const std::string& block, int64_t j, const at::Tensor& x, bool attends,
                   int64_t heads) {
    const at::Tensor y = Resnet(fmt::format("{}.resnets.{}", block, j), x);
    if (!attends) return y;
    return SpatialTransformer(config_, weights_, fmt::format("{}.attentions.{}", block, j), y,
                              states_, heads, hooks_);
  }

  const UNetConfig& config_;
  const StateDict& weights_;
  const at::Tensor time_, states_;
  LayerHooks* hooks_;
  bool with_skip_hooks_ = false;
  std::vector<at::Tensor> skips_;
};

void CheckInputs(const UNetConfig& config, const at::Tensor& sample, const at::Tensor& timestep,
                 const at::Tensor& states) {
  if (sample.dim() != 4 || sample.size(1) != config.in_channels) {
    throw Error(fmt::format("U-Net: sample has shape [{}], (batch, {}, height, width) is expected.",
                            fmt::join(sample.sizes(), ", "), config.in_channels));
  }
  if (timestep.dim() > 1 || (timestep.numel() != 1 && timestep.numel() != sample.size(0))) {
    throw Error(fmt::format("U-Net: timestep has shape [{}], a scalar or ({}) is expected.",
                            fmt::join(timestep.sizes(), ", "), sample.size(0)));
  }
  if (states.dim() != 3 || states.size(0) != sample.size(0) ||
      states.size(2) != config.cross_attention_dim) {
    throw Error(fmt::format(
        "U-Net: encoder_hidden_states has shape [{}], ({}, tokens, {}) is expected. Do the text "
        "encoder and the U-Net belong to the same snapshot?",
        fmt::join(states.sizes(), ", "), sample.size(0), config.cross_attention_dim));
  }
}

}  // namespace

at::Tensor UNetForward(const UNetConfig& config, const StateDict& weights, const at::Tensor& sample,
                       const at::Tensor& timestep, const at::Tensor& encoder_hidden_states,
                       LayerHooks* hooks) {
  CheckInputs(config, sample, timestep, encoder_hidden_states);
  const std::string first = "time_embedding.linear_1.weight";
  const at::Tensor input = nn::As(weights, first, sample);
  const at::Tensor times = timestep.to(input.device()).reshape({-1}).expand({sample.size(0)});
  at::Tensor time = TimestepEmbedding(times, config.block_out_channels.front(),
                                      config.flip_sin_to_cos, config.freq_shift)
                        .to(input.scalar_type());
  time = at::silu(nn::Linear(weights, "time_embedding.linear_1", time, hooks));
  time = nn::Linear(weights, "time_embedding.linear_2", time, hooks);

  // Every residual block takes SiLU of the time embedding: computed once.
  Pass pass(config, weights, at::silu(time), nn::As(weights, first, encoder_hidden_states), hooks);
  at::Tensor x = nn::Conv2d(weights, "conv_in", input, 1, 1, hooks);
  x = pass.Up(pass.Middle(pass.Down(x)));
  x = nn::Silu(nn::GroupNorm(weights, "conv_norm_out", x, config.norm_num_groups, config.norm_eps));
  x = nn::Conv2d(weights, "conv_out", x, 1, 1, hooks);
  return input.is_same(sample) ? x : x.to(sample.options()).contiguous();
}

StateDict InitUNet(const UNetConfig& config, uint64_t seed) {
  return InitLayers(UNetLayers(config), seed);
}

}  // namespace excise
