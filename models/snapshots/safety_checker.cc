#include "models/snapshots/safety_checker.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "models/nets/nn.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

constexpr double kCare = 0.01;

// To three decimals, half to even; the derivative is that of x.
at::Tensor Round3(const at::Tensor& x) { return x + ((x * 1000).round() / 1000 - x).detach(); }

// cos - threshold, (batch, texts); x normalised.
at::Tensor Over(const StateDict& texts, const at::Tensor& x, const char* embeds,
                const char* thresholds) {
  const at::Tensor rows = nn::Normalised(texts.Get(embeds).to(x.options()));
  return at::matmul(x, rows.t()) - texts.Get(thresholds).to(x.options());
}

void RequireWidths(const StateDict& texts, int64_t width, const std::string& origin) {
  for (const auto& [embeds, thresholds] : {std::pair{kCheckerConcepts, kCheckerConceptThresholds},
                                           std::pair{kCheckerSpecial, kCheckerSpecialThresholds}}) {
    const at::Tensor &rows = texts.Get(embeds), &limits = texts.Get(thresholds);
    if (rows.dim() == 2 && rows.size(1) == width && limits.dim() == 1 &&
        limits.size(0) == rows.size(0)) {
      continue;
    }
    throw Error(fmt::format(
        "{}: '{}' has shape ({}) and '{}' ({}), but the image tower's embeddings are {} wide: "
        "({}, {}) and ({}) would fit.",
        origin, embeds, fmt::join(rows.sizes(), ", "), thresholds, fmt::join(limits.sizes(), ", "),
        width, rows.dim() > 0 ? rows.size(0) : 0, width, rows.dim() > 0 ? rows.size(0) : 0));
  }
  if (texts.Get(kCheckerConcepts).size(0) == 0) {
    throw Error(
        fmt::format("{}: '{}' is empty: nothing would ever be blocked.", origin, kCheckerConcepts));
  }
}

}  // namespace

CheckerModel LoadCheckerModel(const std::filesystem::path& folder) {
  CheckerModel checker;
  ClipModel& clip = checker.clip;
  clip.folder = folder;
  clip.config =
      ParseClipConfig(ReadJsonFile(folder / "config.json"), (folder / "config.json").string());
  const int64_t most = ClipElements(clip.config) + (int64_t{1} << 20);
  const StateDict all = LoadSafetensorsFolder(folder, "model", at::kFloat, most);
  for (const auto& [name, tensor] : all) {
    const std::string nested = "vision_model.vision_model.";
    const bool inner = StartsWith(name, nested);
    clip.weights.Set(inner ? "vision_model." + name.substr(nested.size()) : name, tensor);
  }
  for (const char* name :
       {kCheckerConcepts, kCheckerConceptThresholds, kCheckerSpecial, kCheckerSpecialThresholds,
        "visual_projection.weight", "vision_model.post_layernorm.weight"}) {
    if (clip.weights.Contains(name)) continue;
    throw Error(fmt::format(
        "{}: tensor '{}' is missing, so it is no safety checker of Stable Diffusion's shape.",
        folder.string(), name));
  }
  for (const char* name :
       {kCheckerConcepts, kCheckerConceptThresholds, kCheckerSpecial, kCheckerSpecialThresholds}) {
    checker.texts.Set(name, clip.weights.Get(name));
  }
  RequireWidths(checker.texts, clip.weights.Get("visual_projection.weight").size(0),
                folder.string());
  return checker;
}

at::Tensor CheckerExcess(const StateDict& texts, const at::Tensor& embeds) {
  const at::Tensor x = nn::Normalised(embeds).to(at::kDouble);
  const at::Tensor special = Over(texts, x, kCheckerSpecial, kCheckerSpecialThresholds);
  at::Tensor care = at::zeros({x.size(0)}, x.options());
  for (int64_t i = 0; i < special.size(1); ++i) {
    const at::Tensor found = Round3(special.select(1, i) + care).gt(0);
    care = at::where(found, at::full_like(care, kCare), care);
  }
  const at::Tensor over =
      Over(texts, x, kCheckerConcepts, kCheckerConceptThresholds) + care.unsqueeze(1);
  return Round3(over).amax(1).to(at::kFloat);
}

}  // namespace excise
