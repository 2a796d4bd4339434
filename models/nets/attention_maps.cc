#include "models/nets/attention_maps.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"

namespace excise {

std::vector<int64_t> WordPositions(const Tokenizer& tokenizer, const std::string& text,
                                   const std::string& word) {
  const std::vector<int64_t> all = tokenizer.Encode(text), part = tokenizer.Encode(word);
  std::vector<int64_t> positions;
  auto from = all.begin();
  while (!part.empty()) {
    from = std::search(from, all.end(), part.begin(), part.end());
    if (from == all.end()) break;
    for (size_t i = 0; i < part.size(); ++i) positions.push_back(1 + (from++ - all.begin()));
  }
  if (positions.empty()) {
    throw Error(fmt::format(
        "'{}' does not stand in '{}' as tokens of its own, so nothing attends to it. Name a word "
        "of the text.",
        word, text));
  }
  return positions;
}

bool AttentionMaps::WantsProbabilities(const std::string& name) const {
  return EndsWith(name, ".attn2");
}

at::Tensor AttentionMaps::OnProbabilities(const std::string& name, at::Tensor probabilities) {
  const at::Tensor index = at::tensor(positions_, at::kLong).to(probabilities.device());
  layers_[name] = probabilities.index_select(-1, index);
  return probabilities;
}

at::Tensor AttentionMaps::MeanMap(int64_t height, int64_t width) const {
  std::vector<at::Tensor> maps;
  for (const auto& [name, map] : layers_) {
    if (map.size(2) == height * width) maps.push_back(map.mean(std::vector<int64_t>{1, 3}));
  }
  if (maps.empty()) {
    throw Error(fmt::format(
        "None of {} cross-attention layers sees the picture at {} x {}. Ask for the latents' size, "
        "or for it halved as often as a layer's level halves it.",
        layers_.size(), height, width));
  }
  return at::stack(maps).mean(0).view({-1, height, width});
}

bool AttentionMaps::Sees(int64_t pixels) const {
  return std::any_of(layers_.begin(), layers_.end(),
                     [&](const auto& layer) { return layer.second.size(2) == pixels; });
}

at::Tensor AttentionMaps::Region(int64_t height, int64_t width, double threshold) const {
  int64_t side = 4;
  while (side > 1 &&
         (height % side != 0 || width % side != 0 || !Sees((height / side) * (width / side)))) {
    side /= 2;
  }
  const at::Tensor mean = MeanMap(height / side, width / side);
  const at::Tensor least = mean.amin({1, 2}, true), most = mean.amax({1, 2}, true);
  const at::Tensor inside = (mean - least).ge(threshold * (most - least)).to(mean.scalar_type());
  return inside.repeat_interleave(side, 1).repeat_interleave(side, 2);
}

at::Tensor RegionAt(const at::Tensor& region, int64_t pixels) {
  const int64_t height = region.size(1), width = region.size(2);
  for (int64_t side = 1; side <= std::min(height, width); side *= 2) {
    if (height % side != 0 || width % side != 0) break;
    if ((height / side) * (width / side) != pixels) continue;
    return at::avg_pool2d(region.unsqueeze(1), side).flatten(1);
  }
  throw Error(
      fmt::format("A region of {} x {} cannot be brought to a layer of {} pixels by halving both "
                  "sides. Draw it "
                  "at the latents' size.",
                  height, width, pixels));
}

}  // namespace excise
