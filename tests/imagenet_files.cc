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

// Without which a picture would not get through.
constexpr double kDetectorGain = 3.9, kInceptionGain = 4;

using Shapes = std::map<std::string, std::vector<int64_t>>;

void AddUnit(const std::string& conv, const std::string& norm, int64_t out, int64_t in,
             int64_t height, int64_t width, Shapes* shapes) {
  (*shapes)[conv + ".weight"] = {out, in, height, width};
  for (const char* part : {"weight", "bias", "running_mean", "running_var"}) {
    (*shapes)[norm + "." + part] = {out};
  }
}
void AddUnit(const std::string& conv, const std::string& norm, int64_t out, int64_t in,
             int64_t size, Shapes* shapes) {
  AddUnit(conv, norm, out, in, size, size, shapes);
}

// Of the k-th tensor in the order of names sin(0.37 i + k) at place i; norms near 1, variances
// above 0, layers scaled to their inputs, by `gain`.
StateDict Filled(const Shapes& shapes, double gain = 2) {
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
      wave = wave * (gain / std::sqrt(static_cast<double>(count / shape[0])));
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

StateDict FormulaNudeNet(int64_t width) {
  Shapes shapes;
  const auto layer = [&](const std::string& name, int64_t out, int64_t in, int64_t size) {
    shapes["model." + name + ".weight"] = {out, in, size, size};
    shapes["model." + name + ".bias"] = {out};
  };
  // Half of the channels go through `links` pairs of convolutions.
  const auto split = [&](const std::string& name, int64_t in, int64_t out, int64_t links) {
    layer(name + ".cv1.conv", out, in, 1);
    layer(name + ".cv2.conv", out, out / 2 * (2 + links), 1);
    for (int64_t i = 0; i < links; ++i) {
      for (const char* part : {"cv1", "cv2"}) {
        layer(fmt::format("{}.m.{}.{}.conv", name, i, part), out / 2, out / 2, 3);
      }
    }
  };
  const int64_t w = width;
  layer("0.conv", w, 3, 3);
  int64_t in = w;
  for (int64_t stage = 0; stage < 4; ++stage) {
    layer(fmt::format("{}.conv", 2 * stage + 1), 2 * in, in, 3);
    split(fmt::format("{}", 2 * stage + 2), 2 * in, 2 * in, stage == 1 || stage == 2 ? 2 : 1);
    in *= 2;
  }
  layer("9.cv1.conv", in / 2, in, 1);
  layer("9.cv2.conv", in, 2 * in, 1);
  split("12", 24 * w, 8 * w, 1);
  split("15", 12 * w, 4 * w, 1);
  layer("16.conv", 4 * w, 4 * w, 3);
  split("18", 12 * w, 8 * w, 1);
  layer("19.conv", 8 * w, 8 * w, 3);
  split("21", 24 * w, 16 * w, 1);
  for (int64_t grid = 0; grid < 3; ++grid) {
    for (const auto& [head, out] : {std::pair<const char*, int64_t>{"cv2", 64}, {"cv3", 18}}) {
      const std::string name = fmt::format("22.{}.{}.", head, grid);
      layer(name + "0.conv", 4 * w, (int64_t{4} << grid) * w, 3);
      layer(name + "1.conv", 4 * w, 4 * w, 3);
      layer(name + "2", out, 4 * w, 1);
    }
  }
  StateDict weights = Filled(shapes, kDetectorGain);
  weights.Set("model.22.dfl.conv.weight", at::arange(16, at::kFloat).view({1, 16, 1, 1}));
  return weights;
}

StateDict FormulaInception(int64_t share) {
  Shapes shapes;
  const auto unit = [&](const std::string& name, int64_t out, int64_t in, int64_t height,
                        int64_t width) {
    const int64_t from = in == 3 ? 3 : in / share;
    AddUnit(name + ".conv", name + ".bn", out / share, from, height, width, &shapes);
  };
  unit("Conv2d_1a_3x3", 32, 3, 3, 3);
  unit("Conv2d_2a_3x3", 32, 32, 3, 3);
  unit("Conv2d_2b_3x3", 64, 32, 3, 3);
  unit("Conv2d_3b_1x1", 80, 64, 1, 1);
  unit("Conv2d_4a_3x3", 192, 80, 3, 3);
  const auto a = [&](const std::string& block, int64_t in, int64_t pooled) {
    unit(block + "branch1x1", 64, in, 1, 1);
    unit(block + "branch5x5_1", 48, in, 1, 1);
    unit(block + "branch5x5_2", 64, 48, 5, 5);
    unit(block + "branch3x3dbl_1", 64, in, 1, 1);
    unit(block + "branch3x3dbl_2", 96, 64, 3, 3);
    unit(block + "branch3x3dbl_3", 96, 96, 3, 3);
    unit(block + "branch_pool", pooled, in, 1, 1);
  };
  a("Mixed_5b.", 192, 32);
  a("Mixed_5c.", 256, 64);
  a("Mixed_5d.", 288, 64);
  unit("Mixed_6a.branch3x3", 384, 288, 3, 3);
  unit("Mixed_6a.branch3x3dbl_1", 64, 288, 1, 1);
  unit("Mixed_6a.branch3x3dbl_2", 96, 64, 3, 3);
  unit("Mixed_6a.branch3x3dbl_3", 96, 96, 3, 3);
  const auto c = [&](const std::string& block, int64_t inner) {
    unit(block + "branch1x1", 192, 768, 1, 1);
    unit(block + "branch7x7_1", inner, 768, 1, 1);
    unit(block + "branch7x7_2", inner, inner, 1, 7);
    unit(block + "branch7x7_3", 192, inner, 7, 1);
    unit(block + "branch7x7dbl_1", inner, 768, 1, 1);
    unit(block + "branch7x7dbl_2", inner, inner, 7, 1);
    unit(block + "branch7x7dbl_3", inner, inner, 1, 7);
    unit(block + "branch7x7dbl_4", inner, inner, 7, 1);
    unit(block + "branch7x7dbl_5", 192, inner, 1, 7);
    unit(block + "branch_pool", 192, 768, 1, 1);
  };
  c("Mixed_6b.", 128);
  c("Mixed_6c.", 160);
  c("Mixed_6d.", 160);
  c("Mixed_6e.", 192);
  unit("Mixed_7a.branch3x3_1", 192, 768, 1, 1);
  unit("Mixed_7a.branch3x3_2", 320, 192, 3, 3);
  unit("Mixed_7a.branch7x7x3_1", 192, 768, 1, 1);
  unit("Mixed_7a.branch7x7x3_2", 192, 192, 1, 7);
  unit("Mixed_7a.branch7x7x3_3", 192, 192, 7, 1);
  unit("Mixed_7a.branch7x7x3_4", 192, 192, 3, 3);
  const auto e = [&](const std::string& block, int64_t in) {
    unit(block + "branch1x1", 320, in, 1, 1);
    unit(block + "branch3x3_1", 384, in, 1, 1);
    unit(block + "branch3x3_2a", 384, 384, 1, 3);
    unit(block + "branch3x3_2b", 384, 384, 3, 1);
    unit(block + "branch3x3dbl_1", 448, in, 1, 1);
    unit(block + "branch3x3dbl_2", 384, 448, 3, 3);
    unit(block + "branch3x3dbl_3a", 384, 384, 1, 3);
    unit(block + "branch3x3dbl_3b", 384, 384, 3, 1);
    unit(block + "branch_pool", 192, in, 1, 1);
  };
  e("Mixed_7b.", 1280);
  e("Mixed_7c.", 2048);
  shapes["fc.weight"] = {1008 / share, 2048 / share};
  shapes["fc.bias"] = {1008 / share};
  return Filled(shapes, kInceptionGain);
}

StateDict FormulaTrunk(bool vgg, int64_t share) {
  Shapes shapes;
  int64_t in = 3;
  const auto layer = [&](int place, int64_t out, int64_t size) {
    shapes[fmt::format("features.{}.weight", place)] = {out / share, in, size, size};
    shapes[fmt::format("features.{}.bias", place)] = {out / share};
    in = out / share;
  };
  if (vgg) {
    const std::vector<std::pair<int, int64_t>> layers = {
        {0, 64},   {2, 64},   {5, 128},  {7, 128},  {10, 256}, {12, 256}, {14, 256},
        {17, 512}, {19, 512}, {21, 512}, {24, 512}, {26, 512}, {28, 512}};
    for (const auto& [place, out] : layers) layer(place, out, 3);
  } else {
    layer(0, 64, 11);
    layer(3, 192, 5);
    layer(6, 384, 3);
    layer(8, 256, 3);
    layer(10, 256, 3);
  }
  return Filled(shapes);
}

StateDict FormulaHeads(bool vgg, int64_t share) {
  const std::vector<int64_t> channels = vgg ? std::vector<int64_t>{64, 128, 256, 512, 512}
                                            : std::vector<int64_t>{64, 192, 384, 256, 256};
  Shapes shapes;
  for (size_t i = 0; i < channels.size(); ++i) {
    shapes[fmt::format("lin{}.model.1.weight", i)] = {1, channels[i] / share, 1, 1};
  }
  StateDict heads;
  for (const auto& [name, head] : Filled(shapes)) heads.Set(name, head.abs());
  return heads;
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
