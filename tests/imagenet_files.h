// Weights of a small ResNet, and what published networks say of real pictures.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "models/tensors/state_dict.h"

namespace excise {

// torchvision's ResNet of bottlenecks with one block a stage, `width` 64 as released or less; of
// the k-th tensor in the order of names sin(0.37 i + k) at place i, as tools/make_judge_fixtures.py
// has it.
StateDict FormulaResNet(int64_t width = 64);

// Open-NSFW's layers as tools/convert_weights.py names them, `width` 64 as released or less (at
// least 2), filled likewise.
StateDict FormulaOpenNsfw(int64_t width);

// The pictures of tests/fixtures/judges.safetensors, uint8 (1, 3, h, w) each, with the logits
// (1000) of `network`; of another such file where EXCISE_JUDGE_FIXTURE names it.
struct JudgedPicture {
  at::Tensor picture, logits;
};
std::vector<JudgedPicture> JudgedPictures(const std::string& network);

}  // namespace excise
