#include "models/nets/lpips_net.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>
#include <vector>

#include "core/error.h"
#include "models/nets/nn.h"

namespace excise {
namespace {

constexpr size_t kLayers = 5;

// A convolution of torchvision's list, by its place there.
struct Step {
  int place;
  int64_t stride, padding;
  bool pooled_before, read;  // whether a maximum comes first; whether LPIPS reads it (after ReLU)
};

const std::vector<Step>& AlexNet() {
  static const std::vector<Step> steps = {{0, 4, 2, false, true},
                                          {3, 1, 2, true, true},
                                          {6, 1, 1, true, true},
                                          {8, 1, 1, false, true},
                                          {10, 1, 1, false, true}};
  return steps;
}

const std::vector<Step>& Vgg16() {
  static const std::vector<Step> steps = {
      {0, 1, 1, false, false}, {2, 1, 1, false, true},  {5, 1, 1, true, false},
      {7, 1, 1, false, true},  {10, 1, 1, true, false}, {12, 1, 1, false, false},
      {14, 1, 1, false, true}, {17, 1, 1, true, false}, {19, 1, 1, false, false},
      {21, 1, 1, false, true}, {24, 1, 1, true, false}, {26, 1, 1, false, false},
      {28, 1, 1, false, true}};
  return steps;
}

// Each place's channels as a vector of length 1.
at::Tensor UnitChannels(const at::Tensor& x) {
  return x / (x.square().sum(1, /*keepdim=*/true).sqrt() + 1e-10);
}

}  // namespace

LpipsNet::LpipsNet(StateDict trunk, const std::string& trunk_origin, StateDict heads,
                   const std::string& heads_origin)
    : trunk_(std::move(trunk)), heads_(std::move(heads)) {
  vgg_ = trunk_.Contains("features.28.weight");
  std::vector<int64_t> channels;
  nn::RequireFits(trunk_origin, vgg_ ? "VGG16" : "AlexNet", {1}, [&] {
    for (const at::Tensor& layer : Layers(at::zeros({1, 3, 64, 64}, at::kByte))) {
      channels.push_back(layer.size(1));
    }
    return at::zeros({1});
  });
  for (size_t i = 0; i < kLayers; ++i) {
    const std::string name = fmt::format("lin{}.model.1.weight", i);
    const at::Tensor& head = heads_.Get(name);
    if (head.sizes() == at::IntArrayRef({1, channels[i], 1, 1})) continue;
    throw Error(fmt::format(
        "{}: '{}' has shape ({}), but the layer of {} has {} channels. The heads of AlexNet and "
        "those of VGG16 are two files (alex.pth and vgg.pth of LPIPS 0.1).",
        heads_origin, name, fmt::join(head.sizes(), ", "), trunk_origin, channels[i]));
  }
}

std::vector<at::Tensor> LpipsNet::Layers(const at::Tensor& images) const {
  const at::Tensor shift = at::tensor({-0.030, -0.088, -0.188}, at::kFloat).view({3, 1, 1});
  const at::Tensor scale = at::tensor({0.458, 0.448, 0.450}, at::kFloat).view({3, 1, 1});
  at::Tensor x = (images.to(at::kFloat) / 127.5 - 1 - shift) / scale;
  std::vector<at::Tensor> layers;
  for (const Step& step : vgg_ ? Vgg16() : AlexNet()) {
    if (step.pooled_before) {
      x = vgg_ ? at::max_pool2d(x, {2, 2}, {2, 2}) : at::max_pool2d(x, {3, 3}, {2, 2});
    }
    x = at::relu(
        nn::Conv2d(trunk_, fmt::format("features.{}", step.place), x, step.stride, step.padding));
    if (step.read) layers.push_back(x);
  }
  return layers;
}

at::Tensor LpipsNet::Distance(const at::Tensor& first, const at::Tensor& second) const {
  if (first.sizes() != second.sizes() || first.size(2) < 32 || first.size(3) < 32) {
    throw Error(fmt::format(
        "LPIPS compares pictures of one size, at least 32 x 32; these are {} x {} and {} x {}.",
        first.size(2), first.size(3), second.size(2), second.size(3)));
  }
  const std::vector<at::Tensor> one = Layers(first), other = Layers(second);
  at::Tensor distance = at::zeros({first.size(0)});
  for (size_t i = 0; i < kLayers; ++i) {
    const at::Tensor apart = (UnitChannels(one[i]) - UnitChannels(other[i])).square();
    const at::Tensor& head = heads_.Get(fmt::format("lin{}.model.1.weight", i));
    distance = distance + (apart * head.to(at::kFloat)).sum(1).mean({1, 2});
  }
  return distance;
}

}  // namespace excise
