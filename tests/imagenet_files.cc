#include "tests/imagenet_files.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "core/text.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"

namespace excise {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

void AddUnit(const std::string& conv, const std::string& norm, int64_t out, int64_t in,
             int64_t size, Shapes* shapes) {
  (*shapes)[conv + ".weight"] = {out, in, size, size};
  for (const char* part : {"weight", "bias", "running_mean", "running_var"}) {
    (*shapes)[norm + "." + part] = {out};
  }
}

// Of the k-th tensor in the order of names sin(0.37 i + k) at place i; norms near 1, variances
// above 0, layers scaled to their inputs.
StateDict Filled(const Shapes& shapes) {
  StateDict weights;
  int64_t k = 0;
  for (const auto& [name, shape] : shapes) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    const double place = static_cast<double>(k++);
    at::Tensor wave = (at::arange(count, at::kDouble) * 0.37 + place).sin();
    if (EndsWith(name, "running_var")) {
      wave = 1 + 0.5 * wave;
    } else if (shape.size() == 1) {
      wave = 0.1 * wave + (EndsWith(name, "weight") ? 1 : 0);
    } else {
      wave = wave * (2 / std::sqrt(static_cast<double>(count / shape[0])));
    }
    weights.Set(name, wave.to(at::kFloat).view(shape));
  }
  return weights;
}

}  // namespace

StateDict FormulaResNet(int64_t width) {
  Shapes shapes;
  AddUnit("conv1", "bn1", width, 3, 7, &shapes);
  int64_t in = width;
  for (int64_t stage = 1, inner = width; stage <= 4; ++stage, inner *= 2) {
    const std::string block = fmt::format("layer{}.0.", stage);
    AddUnit(block + "conv1", block + "bn1", inner, in, 1, &shapes);
    AddUnit(block + "conv2", block + "bn2", inner, inner, 3, &shapes);
    AddUnit(block + "conv3", block + "bn3", 4 * inner, inner, 1, &shapes);
    AddUnit(block + "downsample.0", block + "downsample.1", 4 * inner, in, 1, &shapes);
    in = 4 * inner;
  }
  shapes["fc.weight"] = {1000, in};
  shapes["fc.bias"] = {1000};
  return Filled(shapes);
}

StateDict FormulaOpenNsfw(int64_t width) {
  Shapes shapes;
  int64_t layer = 0, in = 3;
  const auto add = [&](int64_t out, int64_t from, int64_t size) {
    const std::string name = fmt::format("layers.{}.", layer++);
    shapes[name + "weight"] = {out, from, size, size};
    for (const char* part : {"0.add", "1.sub", "2.mul", "3.add"}) shapes[name + part] = {out};
  };
  add(width, in, 7);
  in = width;
  int64_t inner = width / 2;
  for (const int64_t blocks : {3, 4, 6, 3}) {
    for (int64_t block = 0; block < blocks; ++block) {
      add(inner, in, 1);
      add(inner, inner, 3);
      if (block == 0) add(4 * inner, in, 1);
      add(4 * inner, inner, 1);
      in = 4 * inner;
    }
    inner *= 2;
  }
  shapes["layers.53.weight"] = {in, 2};
  shapes["layers.53.0.add"] = {2};
  return Filled(shapes);
}

std::vector<JudgedPicture> JudgedPictures(const std::string& network) {
  const char* other = std::getenv("EXCISE_JUDGE_FIXTURE");
  const StateDict all =
      LoadSafetensors(other ? other : RepoFile("tests/fixtures/judges.safetensors"));
  std::vector<JudgedPicture> judged;
  for (int64_t i = 0; all.Contains(fmt::format("{}.picture", i)); ++i) {
    judged.push_back({all.Get(fmt::format("{}.picture", i)).unsqueeze(0),
                      all.Get(fmt::format("{}.{}", i, network))});
  }
  return judged;
}

}  // namespace excise
