// The parsers of config.json and scheduler_config.json. Input: "unet", "vae", "clip" or "scheduler"
// in the first line, then the JSON. What is accepted survives writing and reading, describes layers
// of bounded number whose sizes do not overflow, and a schedule of numbers in (0, 1].
#include <cmath>

#include "models/formats/clip_config.h"
#include "models/formats/scheduler_config.h"
#include "models/formats/unet_config.h"
#include "models/formats/vae_config.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace excise;
using fuzz::Require;

// Far above any model, far below what exhausts a machine.
constexpr size_t kMostLayers = 100'000;

void CheckLayers(const LayerList& layers) {
  Require(!layers.specs().empty() && layers.specs().size() <= kMostLayers,
          "a bounded number of layers");
  for (const LayerSpec& layer : layers.specs()) {
    Require(!layer.prefix.empty(), "every layer has a name");
    int64_t elements = 8;  // bytes of the widest dtype
    for (const int64_t size : layer.shape) {
      Require(size > 0, "sizes are positive");
      Require(!__builtin_mul_overflow(elements, size, &elements), "the bytes of a layer fit int64");
    }
  }
}

// Written and read again, a configuration is the same.
template <class Config>
void CheckRoundTrip(const Config& config, Json (*write)(const Config&),
                    Config (*read)(const Json&, std::string_view)) {
  const Json written = write(config);
  Config again;
  Require(fuzz::Accepts([&] { again = read(written, "written"); }),
          "what was written can be read: " + written.dump());
  Require(CanonicalJson(write(again)) == CanonicalJson(written), "and is the same");
}

void CheckClip(const Json& json) {
  const ClipConfig config = ParseClipConfig(json, "input");
  Require(config.text.hidden_size % config.text.num_attention_heads == 0, "whole text heads");
  Require(config.vision.hidden_size % config.vision.num_attention_heads == 0, "whole image heads");
  Require(config.vision.patch_size <= config.vision.image_size, "a patch fits the picture");
  CheckRoundTrip<ClipConfig>(config, ClipConfigToJson, ParseClipConfig);
}

void CheckUNet(const Json& json) {
  const UNetConfig config = ParseUNetConfig(json, "input");
  CheckLayers(UNetLayers(config));
  CheckRoundTrip<UNetConfig>(config, UNetConfigToJson, ParseUNetConfig);
}

void CheckVae(const Json& json) {
  const VaeConfig config = ParseVaeConfig(json, "input");
  CheckLayers(VaeLayers(config));
  Require(config.scaling_factor > 0 && std::isfinite(config.scaling_factor), "a finite scale");
  CheckRoundTrip<VaeConfig>(config, VaeConfigToJson, ParseVaeConfig);
}

void CheckScheduler(const Json& json) {
  const SchedulerConfig config = ParseSchedulerConfig(json, "input");
  const std::vector<double> products = AlphasCumprod(config);
  Require(products.size() == static_cast<size_t>(config.num_train_timesteps), "one a timestep");
  double before = 1;
  for (const double product : products) {
    Require(product >= 0 && product <= before, "alphas fall from 1 and stay at 0 or above");
    before = product;
  }
  CheckRoundTrip<SchedulerConfig>(config, SchedulerConfigToJson, ParseSchedulerConfig);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text = fuzz::Text(data, size);
  const std::string_view kind = fuzz::TakeLine(&text);
  Json json;
  if (!fuzz::Accepts([&] { json = ParseJson(text, "input"); })) return 0;
  fuzz::Accepts([&] {
    if (kind == "clip") CheckClip(json);
    if (kind == "unet") CheckUNet(json);
    if (kind == "vae") CheckVae(json);
    if (kind == "scheduler") CheckScheduler(json);
  });
  return 0;
}
