// The autoencoder's config.json as plain data, and the layers that it describes. Knows no tensors,
// so that hostile files can be fuzzed without LibTorch.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "models/formats/layer_list.h"

namespace excise {

struct VaeConfig {
  int64_t in_channels = 3, out_channels = 3, latent_channels = 4, sample_size = 512;
  std::vector<int64_t> block_out_channels = {128, 256, 512, 512};
  int64_t layers_per_block = 2, norm_num_groups = 32;
  double scaling_factor = 0.18215;
};

VaeConfig ParseVaeConfig(const Json& config, std::string_view origin);
Json VaeConfigToJson(const VaeConfig& config);
LayerList VaeLayers(const VaeConfig& config);

}  // namespace excise
