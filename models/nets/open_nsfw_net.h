// Yahoo's Open-NSFW: a ResNet of half width, 50 layers, with two classes.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "models/tensors/state_dict.h"

namespace excise {

class OpenNsfwNet {
 public:
  // Weights as tools/convert_weights.py makes them of the ONNX file: layers.K.weight of the K-th
  // convolution and, behind it, the constants that are added, subtracted and multiplied. Throws
  // Error, naming `origin`, where they are another network's.
  OpenNsfwNet(StateDict weights, const std::string& origin);

  // uint8 (batch, 3, h, w), RGB -> (batch, 3, 224, 224): resized to 256 x 256 without keeping its
  // shape, written and read as JPEG, the middle cut, BGR, less the training set's mean.
  static at::Tensor Preprocess(const at::Tensor& images);
  // Logits (batch, 2): safe, not safe.
  at::Tensor Forward(const at::Tensor& pixels) const;

 private:
  // The layer and its constants; `padding` of the convolution.
  at::Tensor Unit(int64_t layer, const at::Tensor& x, int64_t stride, int64_t padding) const;

  StateDict weights_;
};

}  // namespace excise
