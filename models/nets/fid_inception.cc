#include "models/nets/fid_inception.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <initializer_list>
#include <utility>
#include <vector>

#include "models/nets/nn.h"
#include "models/nets/resize.h"

namespace excise {
namespace {

constexpr int64_t kSide = 299;

// One block, whose layers are named below `name`.
class Block {
 public:
  Block(const StateDict& weights, std::string name) : weights_(weights), name_(std::move(name)) {}

  // Convolution (padded to keep the size where it takes every place), normalisation, ReLU.
  at::Tensor Unit(const std::string& layer, const at::Tensor& x, int64_t stride = 1,
                  bool padded = true) const {
    constexpr double kEps = 1e-3;
    const std::string unit = name_ + layer;
    const at::Tensor& weight = weights_.Get(unit + ".conv.weight");
    const bool same = padded && stride == 1;
    const std::vector<int64_t> padding = {same ? weight.size(2) / 2 : 0,
                                          same ? weight.size(3) / 2 : 0};
    const at::Tensor y = at::conv2d(x, weight, {}, {stride, stride}, padding);
    return at::relu(nn::BatchNorm(weights_, unit + ".bn", y, kEps));
  }
  // Layers after each other, all of stride 1.
  at::Tensor Chain(std::initializer_list<const char*> layers, at::Tensor x) const {
    for (const char* layer : layers) x = Unit(layer, x);
    return x;
  }
  at::Tensor Averaged(const at::Tensor& x) const {
    return Unit("branch_pool", at::avg_pool2d(x, {3, 3}, {1, 1}, {1, 1}, /*ceil_mode=*/false,
                                              /*count_include_pad=*/false));
  }

 private:
  const StateDict& weights_;
  const std::string name_;
};

at::Tensor Halved(const at::Tensor& x) { return at::max_pool2d(x, {3, 3}, {2, 2}); }

// The published names of blocks: A at 35 x 35, C at 17 x 17, E at 8 x 8; B and D lead down.
at::Tensor BlockA(const Block& block, const at::Tensor& x) {
  return at::cat(
      {block.Unit("branch1x1", x), block.Chain({"branch5x5_1", "branch5x5_2"}, x),
       block.Chain({"branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"}, x), block.Averaged(x)},
      1);
}

at::Tensor BlockB(const Block& block, const at::Tensor& x) {
  const at::Tensor twice = block.Chain({"branch3x3dbl_1", "branch3x3dbl_2"}, x);
  return at::cat({block.Unit("branch3x3", x, 2), block.Unit("branch3x3dbl_3", twice, 2), Halved(x)},
                 1);
}

at::Tensor BlockC(const Block& block, const at::Tensor& x) {
  return at::cat(
      {block.Unit("branch1x1", x), block.Chain({"branch7x7_1", "branch7x7_2", "branch7x7_3"}, x),
       block.Chain({"branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4",
                    "branch7x7dbl_5"},
                   x),
       block.Averaged(x)},
      1);
}

at::Tensor BlockD(const Block& block, const at::Tensor& x) {
  const at::Tensor wide = block.Chain({"branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3"}, x);
  return at::cat({block.Unit("branch3x3_2", block.Unit("branch3x3_1", x), 2),
                  block.Unit("branch7x7x3_4", wide, 2), Halved(x)},
                 1);
}

at::Tensor BlockE(const Block& block, const at::Tensor& x, bool last) {
  const at::Tensor once = block.Unit("branch3x3_1", x);
  const at::Tensor twice = block.Chain({"branch3x3dbl_1", "branch3x3dbl_2"}, x);
  const at::Tensor pooled =
      last ? block.Unit("branch_pool", at::max_pool2d(x, {3, 3}, {1, 1}, {1, 1}))
           : block.Averaged(x);
  return at::cat({block.Unit("branch1x1", x), block.Unit("branch3x3_2a", once),
                  block.Unit("branch3x3_2b", once), block.Unit("branch3x3dbl_3a", twice),
                  block.Unit("branch3x3dbl_3b", twice), pooled},
                 1);
}

}  // namespace

FidInception::FidInception(StateDict weights, const std::string& origin)
    : weights_(std::move(weights)) {
  const int64_t width = weights_.Contains("fc.weight") && weights_.Get("fc.weight").dim() == 2
                            ? weights_.Get("fc.weight").size(1)
                            : 2048;
  nn::RequireFits(origin, "the Inception network of FID", {1, width}, [this] {
    return Features(at::zeros({1, 3, kSide, kSide}));
  });
}

at::Tensor FidInception::PreprocessClean(const at::Tensor& images) {
  return (ResizeUnrounded(images, kSide, kSide).clamp(0, 255) - 128) / 128;
}

at::Tensor FidInception::PreprocessLegacy(const at::Tensor& images) {
  const at::Tensor resized = at::upsample_bilinear2d(
      images.to(at::kFloat) / 255, at::IntArrayRef({kSide, kSide}), /*align_corners=*/false);
  return 2 * resized - 1;
}

at::Tensor FidInception::Features(const at::Tensor& pixels) const {
  const auto block = [&](const std::string& name) { return Block(weights_, name + "."); };
  const Block stem(weights_, "");
  at::Tensor x = stem.Unit("Conv2d_1a_3x3", pixels, 2);
  x = stem.Unit("Conv2d_2a_3x3", x, 1, /*padded=*/false);
  x = Halved(stem.Unit("Conv2d_2b_3x3", x));
  x = stem.Unit("Conv2d_3b_1x1", x);
  x = Halved(stem.Unit("Conv2d_4a_3x3", x, 1, /*padded=*/false));
  for (const char* name : {"Mixed_5b", "Mixed_5c", "Mixed_5d"}) x = BlockA(block(name), x);
  x = BlockB(block("Mixed_6a"), x);
  for (const char* name : {"Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"}) {
    x = BlockC(block(name), x);
  }
  x = BlockD(block("Mixed_7a"), x);
  x = BlockE(block("Mixed_7b"), x, /*last=*/false);
  x = BlockE(block("Mixed_7c"), x, /*last=*/true);
  return x.mean({2, 3});
}

}  // namespace excise
