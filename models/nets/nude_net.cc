#include "models/nets/nude_net.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "models/nets/nn.h"
#include "models/nets/resize.h"

namespace excise {
namespace {

constexpr int64_t kSide = 320;
constexpr int64_t kStrides[] = {8, 16, 32};  // of the three grids on which it looks
constexpr int64_t kBins = 16;                // of a distance from a place to a side of its box
constexpr int64_t kPlaces = 2100;            // 40 * 40 + 20 * 20 + 10 * 10

int64_t Rounded(double x) { return static_cast<int64_t>(std::nearbyint(x)); }

// The layers of YOLOv8, of which a module's number is its place in the published list.
class Layers {
 public:
  explicit Layers(const StateDict& weights) : weights_(weights) {}

  // Convolution (its normalisation folded into it) and SiLU.
  at::Tensor Conv(const std::string& name, const at::Tensor& x, int64_t stride = 1) const {
    const int64_t kernel = weights_.Get(name + ".conv.weight").size(2);
    return nn::Silu(nn::Conv2d(weights_, name + ".conv", x, stride, kernel / 2));
  }

  // C2f: half of the channels go through a chain of pairs of convolutions, and every link is kept.
  at::Tensor Split(const std::string& name, const at::Tensor& x, bool shortcut) const {
    const at::Tensor y = Conv(name + ".cv1", x);
    const int64_t half = y.size(1) / 2;
    std::vector<at::Tensor> parts = {y.narrow(1, 0, half), y.narrow(1, half, half)};
    for (int64_t i = 0; weights_.Contains(fmt::format("{}.m.{}.cv1.conv.weight", name, i)); ++i) {
      const std::string link = fmt::format("{}.m.{}", name, i);
      const at::Tensor next = Conv(link + ".cv2", Conv(link + ".cv1", parts.back()));
      parts.push_back(shortcut ? parts.back() + next : next);
    }
    return Conv(name + ".cv2", at::cat(parts, 1));
  }

  // SPPF: what three poolings after each other see, beside what they saw first.
  at::Tensor Pyramid(const std::string& name, const at::Tensor& x) const {
    std::vector<at::Tensor> parts = {Conv(name + ".cv1", x)};
    for (int i = 0; i < 3; ++i) {
      parts.push_back(at::max_pool2d(parts.back(), {5, 5}, {1, 1}, {2, 2}));
    }
    return Conv(name + ".cv2", at::cat(parts, 1));
  }

  // One of the detector's two heads on one grid: (batch, channels, places).
  at::Tensor Head(const std::string& name, const at::Tensor& x) const {
    const at::Tensor y = Conv(name + ".1", Conv(name + ".0", x));
    return nn::Conv2d(weights_, name + ".2", y, 1, 0).flatten(2);
  }

  // (batch, 4 * kBins, places) -> (batch, 4, places): the mean distance, in the grid's steps.
  at::Tensor Distances(const at::Tensor& bins) const {
    const at::Tensor share =
        at::softmax(bins.view({bins.size(0), 4, kBins, bins.size(2)}).transpose(1, 2), 1);
    return at::conv2d(share, weights_.Get("model.22.dfl.conv.weight")).squeeze(1);
  }

 private:
  const StateDict& weights_;
};

at::Tensor Doubled(const at::Tensor& x) {
  return at::upsample_nearest2d(x, at::IntArrayRef({x.size(2) * 2, x.size(3) * 2}));
}

// Centres (2, places) of a grid's places, in its steps.
at::Tensor Centres(const at::Tensor& grid) {
  const at::Tensor down = at::arange(grid.size(2), grid.options()) + 0.5;
  const at::Tensor across = at::arange(grid.size(3), grid.options()) + 0.5;
  return at::stack({across.view({1, -1}).expand({grid.size(2), grid.size(3)}).flatten(),
                    down.view({-1, 1}).expand({grid.size(2), grid.size(3)}).flatten()});
}

double Overlap(const BodyPart& a, const BodyPart& b) {
  const int64_t width = std::min(a.left + a.width, b.left + b.width) - std::max(a.left, b.left);
  const int64_t height = std::min(a.top + a.height, b.top + b.height) - std::max(a.top, b.top);
  const int64_t both = std::max<int64_t>(width, 0) * std::max<int64_t>(height, 0);
  const int64_t either = a.width * a.height + b.width * b.height - both;
  return either > 0 ? static_cast<double>(both) / static_cast<double>(either) : 1;
}

}  // namespace

NudeNet::NudeNet(StateDict weights, const std::string& origin) : weights_(std::move(weights)) {
  const auto rows = static_cast<int64_t>(4 + kNudeNetLabels.size());
  nn::RequireFits(origin, "NudeNet's YOLOv8", {1, rows, kPlaces}, [this] {
    return Forward(at::zeros({1, 3, kSide, kSide}));
  });
}

NudeNetPlace NudeNet::PlaceOf(int64_t height, int64_t width) {
  const double aspect = static_cast<double>(width) / static_cast<double>(height);
  const auto shorter = [](double share) {
    return std::max<int64_t>(Rounded(static_cast<double>(kSide) * share), 1);
  };
  NudeNetPlace place;
  place.height = height > width ? kSide : shorter(1 / aspect);
  place.width = height > width ? shorter(aspect) : kSide;
  place.left = (kSide - place.width) / 2;
  place.top = (kSide - place.height) / 2;
  const auto square = [](int64_t a, int64_t b) { return static_cast<double>(a * a + b * b); };
  place.factor = std::sqrt(square(height, width) / square(place.height, place.width));
  return place;
}

at::Tensor NudeNet::Preprocess(const at::Tensor& images) {
  const NudeNetPlace place = PlaceOf(images.size(2), images.size(3));
  const at::Tensor padded = at::constant_pad_nd(ResizeAsOpenCv(images, place.height, place.width),
                                                {place.left, place.left, place.top, place.top}, 0);
  return ResizeAsOpenCv(padded, kSide, kSide).to(at::kFloat) / 255;
}

at::Tensor NudeNet::Forward(const at::Tensor& pixels) const {
  const Layers net(weights_);
  at::Tensor x = net.Conv("model.1", net.Conv("model.0", pixels, 2), 2);
  x = net.Split("model.2", x, true);
  const at::Tensor fine = net.Split("model.4", net.Conv("model.3", x, 2), true);
  const at::Tensor middle = net.Split("model.6", net.Conv("model.5", fine, 2), true);
  x = net.Split("model.8", net.Conv("model.7", middle, 2), true);
  const at::Tensor coarse = net.Pyramid("model.9", x);
  // Down the pyramid and up again.
  const at::Tensor down = net.Split("model.12", at::cat({Doubled(coarse), middle}, 1), false);
  std::vector<at::Tensor> grids = {net.Split("model.15", at::cat({Doubled(down), fine}, 1), false)};
  grids.push_back(
      net.Split("model.18", at::cat({net.Conv("model.16", grids[0], 2), down}, 1), false));
  grids.push_back(
      net.Split("model.21", at::cat({net.Conv("model.19", grids[1], 2), coarse}, 1), false));

  std::vector<at::Tensor> boxes, scores;
  for (size_t i = 0; i < grids.size(); ++i) {
    const at::Tensor sides = net.Distances(net.Head(fmt::format("model.22.cv2.{}", i), grids[i]));
    const at::Tensor centres = Centres(grids[i]);
    const at::Tensor from = centres - sides.narrow(1, 0, 2), to = centres + sides.narrow(1, 2, 2);
    boxes.push_back(at::cat({(from + to) / 2, to - from}, 1) * static_cast<double>(kStrides[i]));
    scores.push_back(at::sigmoid(net.Head(fmt::format("model.22.cv3.{}", i), grids[i])));
  }
  return at::cat({at::cat(boxes, 2), at::cat(scores, 2)}, 1);
}

std::vector<BodyPart> NudeNet::PartsIn(const at::Tensor& rows, const NudeNetPlace& place) {
  constexpr double kLeast = 0.25, kMostOverlap = 0.45;
  const at::Tensor table = rows.t().to(at::kCPU, at::kFloat).contiguous();  // (places, 4 + 18)
  std::vector<BodyPart> found;
  for (int64_t i = 0; i < table.size(0); ++i) {
    const float* row = table.data_ptr<float>() + i * table.size(1);
    const float* best = std::max_element(row + 4, row + table.size(1));
    if (!(*best > kLeast)) continue;
    // In single precision, as the reference rounds.
    const float width = row[2], height = row[3], factor = static_cast<float>(place.factor);
    const auto left = static_cast<float>(place.left), top = static_cast<float>(place.top);
    found.push_back({static_cast<size_t>(best - row - 4), *best,
                     Rounded((row[0] - width * 0.5F - left) * factor),
                     Rounded((row[1] - height * 0.5F - top) * factor), Rounded(width * factor),
                     Rounded(height * factor)});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const BodyPart& a, const BodyPart& b) { return a.score > b.score; });
  std::vector<BodyPart> kept;
  for (const BodyPart& one : found) {
    const bool hidden = std::any_of(kept.begin(), kept.end(), [&](const BodyPart& better) {
      return Overlap(one, better) > kMostOverlap;
    });
    if (!hidden) kept.push_back(one);
  }
  return kept;
}

}  // namespace excise
