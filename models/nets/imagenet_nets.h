// Published networks of the 1,000 ImageNet classes, on weights under the names of their releases.
// Which one a file holds is read off these names.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "models/nets/resize.h"
#include "models/tensors/state_dict.h"

namespace excise {

// How a network wants its pictures: ResizeAndCut, then (x - mean) / deviation of values in [0, 1].
struct ImageNetInput {
  int64_t resized = 256, size = 224;
  Resampling resampling = Resampling::kBilinear;
  std::vector<double> mean, deviation;
};

struct ImageNetOutput {
  at::Tensor logits;  // (batch, 1000)
  at::Tensor pooled;  // (batch, d): what the last layer reads
};

class ImageNetNet {
 public:
  // Throws Error, naming `origin` and the tensor, where the weights are none of the known networks:
  // EfficientNet-lite0 (Google; names of efficientnet-lite-pytorch) or a ResNet of bottlenecks (He
  // et al. 2016, stride in the 3x3 convolution; names of torchvision).
  ImageNetNet(StateDict weights, const std::string& origin);

  const std::string& architecture() const { return architecture_; }
  const ImageNetInput& input() const { return input_; }
  // uint8 (batch, 3, h, w) -> (batch, 3, size, size) float.
  at::Tensor Preprocess(const at::Tensor& images) const;
  // `pixels` as Preprocess gives them.
  ImageNetOutput Forward(const at::Tensor& pixels) const;

 private:
  StateDict weights_;
  std::string architecture_;
  ImageNetInput input_;
};

}  // namespace excise
