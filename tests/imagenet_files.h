// Weights of small networks, and what published ones say of real pictures.
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

// NudeNet's detector, `width` 16 as released or less, filled likewise.
StateDict FormulaNudeNet(int64_t width = 16);

// The Inception network of FID, every layer `share` times narrower than as released, filled
// likewise.
StateDict FormulaInception(int64_t share = 1);

// torchvision's AlexNet or VGG16 without their last layers, `share` times narrower, filled
// likewise, and LPIPS's heads for it, the size of such values.
StateDict FormulaTrunk(bool vgg, int64_t share = 1);
StateDict FormulaHeads(bool vgg, int64_t share = 1);

// The pictures of tests/fixtures/judges.safetensors, uint8 (1, 3, h, w) each, with what
// `network` says of them: logits (1000), for one; of another such file where EXCISE_JUDGE_FIXTURE
// names it.
struct JudgedPicture {
  at::Tensor picture, said;
};
std::vector<JudgedPicture> JudgedPictures(const std::string& network);

}  // namespace excise
