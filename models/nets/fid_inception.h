// The Inception network by whose features pictures are compared for FID and KID.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "models/tensors/state_dict.h"

namespace excise {

// Inception-v3 as the FID of TensorFlow has it (2015-12-05), which is not torchvision's: averages
// leave the padding out, and the last block takes a maximum.
class FidInception {
 public:
  // Weights under the names of pytorch-fid's pt_inception-2015-12-05-6726825d.pth. Throws Error,
  // naming `origin`, where they are another network's.
  FidInception(StateDict weights, const std::string& origin);

  // uint8 (batch, 3, h, w) -> (batch, 3, 299, 299) in about [-1, 1].
  // clean: antialiased bicubic without rounding to 8 bits, as clean-fid's "clean".
  static at::Tensor PreprocessClean(const at::Tensor& images);
  // legacy: bilinear without antialiasing, as pytorch-fid (clean-fid's "legacy_pytorch").
  static at::Tensor PreprocessLegacy(const at::Tensor& images);
  // (batch, 2048).
  at::Tensor Features(const at::Tensor& pixels) const;

 private:
  StateDict weights_;
};

}  // namespace excise
