#include "experiments/check/draw_trials.h"

#include <algorithm>

#include "core/random.h"

namespace excise {
namespace {

// The n-th setting of the space's product, fields in the order of their names.
Json SettingAt(const SearchSpace& space, int64_t index) {
  Json setting = Json::object();
  for (const auto& [field, values] : space) {
    const auto size = static_cast<int64_t>(values.size());
    setting[field] = values[static_cast<size_t>(index % size)];
    index /= size;
  }
  return setting;
}

}  // namespace

int64_t SizeOf(const SearchSpace& space) {
  int64_t size = 1;
  for (const auto& [field, values] : space) size *= static_cast<int64_t>(values.size());
  return size;
}

std::vector<Json> DrawTrials(Parameterised& plugin, const std::map<std::string, Json>& presets,
                             const std::string& name, const SearchSpace& space, size_t count,
                             uint64_t seed) {
  const Json present = EncodeParams(plugin);
  std::vector<Json> settings;
  const auto add = [&](const Json& setting) {
    DecodeParams(present, plugin, name);
    DecodeParams(setting, plugin, name + ": search_space");
    const Json params = EncodeParams(plugin);
    if (std::find(settings.begin(), settings.end(), params) == settings.end()) {
      settings.push_back(params);
    }
  };
  Json paper = Json::object();
  const auto preset = presets.find("paper");
  for (const auto& [field, values] : space) {
    if (preset == presets.end() || !preset->second.contains(field)) continue;
    paper[field] = preset->second.at(field);
  }
  if (!paper.empty()) add(paper);
  const int64_t size = SizeOf(space);
  // A space that is no larger is walked whole, whether the paper's setting is in it or not.
  const size_t most = size <= static_cast<int64_t>(count) ? count + 1 : count;
  Philox rng({.seed = seed, .id = "tune/" + name, .stream = Stream::kOrder});
  for (const int64_t index : rng.Permutation(size)) {
    if (settings.size() >= most) break;
    add(SettingAt(space, index));
  }
  DecodeParams(present, plugin, name);
  return settings;
}

}  // namespace excise
