#include "models/nets/open_nsfw_net.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <cstring>
#include <utility>
#include <vector>

#include "models/formats/jpeg_writer.h"
#include "models/formats/picture_decoder.h"
#include "models/nets/nn.h"
#include "models/nets/resize.h"

namespace excise {
namespace {

constexpr int64_t kResized = 256, kSize = 224;
constexpr int64_t kBlocks[] = {3, 4, 6, 3};
constexpr int64_t kLastLayer = 53;

// uint8 (3, h, w) as a JPEG file keeps it.
at::Tensor ThroughJpeg(const at::Tensor& image) {
  constexpr int kQuality = 75;
  const at::Tensor rows = image.permute({1, 2, 0}).contiguous();
  const int64_t height = rows.size(0), width = rows.size(1);
  const auto* begin = rows.data_ptr<uint8_t>();
  const std::vector<uint8_t> pixels(begin, begin + rows.numel());
  const DecodedPicture read =
      DecodePicture(EncodeJpeg(pixels, width, height, kQuality), "a picture in memory");
  at::Tensor back = at::empty({height, width, 3}, at::kByte);
  std::memcpy(back.data_ptr<uint8_t>(), read.pixels.data(), read.pixels.size());
  return back.permute({2, 0, 1});
}

}  // namespace

OpenNsfwNet::OpenNsfwNet(StateDict weights, const std::string& origin)
    : weights_(std::move(weights)) {
  nn::RequireFits(origin, "Open-NSFW", {1, 2}, [this] {
    return Forward(at::zeros({1, 3, kSize, kSize}));
  });
}

at::Tensor OpenNsfwNet::Preprocess(const at::Tensor& images) {
  const at::Tensor resized = ResizePictures(images, kResized, kResized, Resampling::kBilinear);
  at::Tensor pixels = at::empty({images.size(0), 3, kSize, kSize}, at::kFloat);
  const at::Tensor mean = at::tensor({104.0, 117.0, 123.0}, at::kFloat).view({3, 1, 1});
  for (int64_t i = 0; i < images.size(0); ++i) {
    constexpr int64_t kBegin = (kResized - kSize) / 2;
    const at::Tensor cut =
        ThroughJpeg(resized[i]).narrow(1, kBegin, kSize).narrow(2, kBegin, kSize);
    pixels[i].copy_(cut.flip(0).to(at::kFloat) - mean);
  }
  return pixels;
}

at::Tensor OpenNsfwNet::Unit(int64_t layer, const at::Tensor& x, int64_t stride,
                             int64_t padding) const {
  const std::string name = fmt::format("layers.{}.", layer);
  const auto constant = [&](const char* which) {
    return weights_.Get(name + which).reshape({1, -1, 1, 1});
  };
  const at::Tensor y =
      at::conv2d(x, weights_.Get(name + "weight"), {}, {stride, stride}, {padding, padding});
  return (y + constant("0.add") - constant("1.sub")) * constant("2.mul") + constant("3.add");
}

at::Tensor OpenNsfwNet::Forward(const at::Tensor& pixels) const {
  at::Tensor h = at::relu(Unit(0, pixels, 2, 3));
  // Pooled as TensorFlow's "same": an even side gets its padding behind. Nothing is below 0.
  h = at::max_pool2d(at::constant_pad_nd(h, {0, 1, 0, 1}, 0), {3, 3}, {2, 2});
  int64_t layer = 1;
  for (int64_t stage = 0; stage < 4; ++stage) {
    for (int64_t block = 0; block < kBlocks[stage]; ++block) {
      const int64_t stride = stage > 0 && block == 0 ? 2 : 1;
      at::Tensor y = at::relu(Unit(layer++, h, stride, 0));
      y = at::relu(Unit(layer++, y, 1, 1));
      if (block == 0) h = Unit(layer++, h, stride, 0);
      h = at::relu(Unit(layer++, y, 1, 0) + h);
    }
  }
  const std::string last = fmt::format("layers.{}.", kLastLayer);
  return at::matmul(h.mean({2, 3}), weights_.Get(last + "weight")) + weights_.Get(last + "0.add");
}

}  // namespace excise
