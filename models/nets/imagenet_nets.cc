#include "models/nets/imagenet_nets.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/error.h"
#include "models/nets/nn.h"

namespace excise {
namespace {

constexpr int64_t kClasses = 1000;
constexpr const char* kEfficientNet = "efficientnet_lite0";
constexpr const char* kResNet = "resnet";

// TensorFlow's "same": what does not divide evenly goes behind and below.
at::Tensor PadSame(const at::Tensor& x, int64_t kernel, int64_t stride) {
  const auto total = [&](int64_t size) {
    return std::max<int64_t>(((size + stride - 1) / stride - 1) * stride + kernel - size, 0);
  };
  const int64_t rows = total(x.size(2)), columns = total(x.size(3));
  if (rows == 0 && columns == 0) return x;
  return at::constant_pad_nd(x, {columns / 2, columns - columns / 2, rows / 2, rows - rows / 2}, 0);
}

// Convolution, normalisation and, with `act`, ReLU6.
at::Tensor LiteUnit(const StateDict& weights, const std::string& conv, const std::string& norm,
                    const at::Tensor& x, int64_t stride, bool act) {
  constexpr double kEps = 1e-3;
  const at::Tensor& weight = weights.Get(conv + ".weight");
  const int64_t groups = weight.size(1) == 1 && weight.size(2) > 1 ? x.size(1) : 1;
  at::Tensor y = at::conv2d(PadSame(x, weight.size(2), stride), weight, {}, {stride, stride},
                            at::IntArrayRef({0, 0}), {1, 1}, groups);
  y = nn::BatchNorm(weights, norm, y, kEps);
  return act ? at::clamp(y, 0, 6) : y;
}

// Depth 1.0 of EfficientNet without squeeze-and-excitation: kernels and widths are in the weights.
ImageNetOutput EfficientNetLite(const StateDict& weights, const at::Tensor& pixels) {
  constexpr int64_t kStrides[] = {1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1};
  at::Tensor h = LiteUnit(weights, "_conv_stem", "_bn0", pixels, 2, true);
  for (size_t i = 0; i < std::size(kStrides); ++i) {
    const std::string block = fmt::format("_blocks.{}.", i);
    at::Tensor y = h;
    if (weights.Contains(block + "_expand_conv.weight")) {
      y = LiteUnit(weights, block + "_expand_conv", block + "_bn0", y, 1, true);
    }
    y = LiteUnit(weights, block + "_depthwise_conv", block + "_bn1", y, kStrides[i], true);
    y = LiteUnit(weights, block + "_project_conv", block + "_bn2", y, 1, false);
    h = kStrides[i] == 1 && y.size(1) == h.size(1) ? y + h : y;
  }
  h = LiteUnit(weights, "_conv_head", "_bn1", h, 1, true);
  const at::Tensor pooled = h.mean({2, 3});
  return {nn::Linear(weights, "_fc", pooled), pooled};
}

at::Tensor ResNetUnit(const StateDict& weights, const std::string& conv, const std::string& norm,
                      const at::Tensor& x, int64_t stride, int64_t padding) {
  return nn::BatchNorm(weights, norm, nn::Conv2d(weights, conv, x, stride, padding), 1e-5);
}

ImageNetOutput ResNet(const StateDict& weights, const at::Tensor& pixels) {
  at::Tensor h = at::relu(ResNetUnit(weights, "conv1", "bn1", pixels, 2, 3));
  h = at::max_pool2d(h, {3, 3}, {2, 2}, {1, 1});
  for (int stage = 1; stage <= 4; ++stage) {
    for (int i = 0; weights.Contains(fmt::format("layer{}.{}.conv1.weight", stage, i)); ++i) {
      const std::string block = fmt::format("layer{}.{}.", stage, i);
      const int64_t stride = stage > 1 && i == 0 ? 2 : 1;
      at::Tensor y = at::relu(ResNetUnit(weights, block + "conv1", block + "bn1", h, 1, 0));
      y = at::relu(ResNetUnit(weights, block + "conv2", block + "bn2", y, stride, 1));
      y = ResNetUnit(weights, block + "conv3", block + "bn3", y, 1, 0);
      if (weights.Contains(block + "downsample.0.weight")) {
        h = ResNetUnit(weights, block + "downsample.0", block + "downsample.1", h, stride, 0);
      }
      h = at::relu(y + h);
    }
  }
  const at::Tensor pooled = h.mean({2, 3});
  return {nn::Linear(weights, "fc", pooled), pooled};
}

}  // namespace

ImageNetNet::ImageNetNet(StateDict weights, const std::string& origin)
    : weights_(std::move(weights)) {
  if (weights_.Contains("_conv_stem.weight")) {
    architecture_ = kEfficientNet;
  } else if (weights_.Contains("layer1.0.conv3.weight")) {
    architecture_ = kResNet;
  } else {
    throw Error(fmt::format(
        "{}: neither an EfficientNet-lite0 (no '_conv_stem.weight') nor a ResNet-50 as torchvision "
        "names it (no 'layer1.0.conv3.weight'). Other networks of ImageNet are not known; "
        "tools/convert_weights.py converts the two.",
        origin));
  }
  if (architecture_ == kEfficientNet) {
    input_.resampling = Resampling::kBicubic;
    input_.mean = {127. / 255, 127. / 255, 127. / 255};
    input_.deviation = {128. / 255, 128. / 255, 128. / 255};
  } else {
    input_.mean = {0.485, 0.456, 0.406};
    input_.deviation = {0.229, 0.224, 0.225};
  }
  nn::RequireFits(origin, architecture_, {1, kClasses}, [this] {
    return Forward(at::zeros({1, 3, input_.size, input_.size})).logits;
  });
}

at::Tensor ImageNetNet::Preprocess(const at::Tensor& images) const {
  const at::Tensor x =
      ResizeAndCut(images, input_.resized, input_.size, input_.resampling).to(at::kFloat);
  const at::Tensor mean = at::tensor(input_.mean, at::kFloat).view({1, 3, 1, 1});
  const at::Tensor deviation = at::tensor(input_.deviation, at::kFloat).view({1, 3, 1, 1});
  return (x / 255 - mean) / deviation;
}

ImageNetOutput ImageNetNet::Forward(const at::Tensor& pixels) const {
  return architecture_ == kResNet ? ResNet(weights_, pixels) : EfficientNetLite(weights_, pixels);
}

}  // namespace excise
