// LPIPS: a distance of two pictures that agrees with people's eyes, by the features of a network.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "models/tensors/state_dict.h"

namespace excise {

class LpipsNet {
 public:
  // trunk: torchvision's AlexNet or VGG16 ("features.0.weight", ...). heads: the published weights
  // of its five layers ("lin0.model.1.weight" (1, channels, 1, 1), ...). Throws Error, naming the
  // file, where either is another one's.
  LpipsNet(StateDict trunk, const std::string& trunk_origin, StateDict heads,
           const std::string& heads_origin);

  // first, second uint8 (batch, 3, h, w), at least 32 x 32 -> (batch), 0 for equal pictures.
  at::Tensor Distance(const at::Tensor& first, const at::Tensor& second) const;

 private:
  std::vector<at::Tensor> Layers(const at::Tensor& images) const;

  StateDict trunk_, heads_;
  bool vgg_ = false;
};

}  // namespace excise
