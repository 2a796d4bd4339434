#include "pretraining/stages/stage_util.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <filesystem>

#include "core/store.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

bool IsRunningStatistic(const std::string& name) {
  return name.find("running_") != std::string::npos ||
         name.find("num_batches_tracked") != std::string::npos;
}

}  // namespace

TrainSpec StageSpec(const Workshop& shop, const std::string& stage, int64_t steps, double lr) {
  TrainSpec spec;
  spec.steps = steps;
  spec.optimizer.name = "adamw";
  spec.optimizer.lr = lr;
  spec.schedule.name = "cosine";
  spec.schedule.warmup_steps = steps / 40;
  spec.schedule.hold_steps = steps * 2 / 5;
  spec.clip_norm = 1;
  spec.checkpoint_every = shop.recipe.checkpoint_every;
  spec.checkpoint = shop.scratch / (stage + ".ckpt.safetensors");
  spec.label = stage;
  return spec;
}

std::vector<std::string> TrainableNames(const StateDict& weights) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : weights) {
    if (!IsRunningStatistic(name)) names.push_back(name);
  }
  return names;
}

void WriteModel(const Workshop& shop, const Stage& stage, const Json& config,
                const TrainResult& result) {
  const std::filesystem::path file = shop.out / stage.product;
  std::filesystem::create_directories(file.parent_path());
  WriteFileAtomically(file.parent_path() / "config.json", config.dump(2) + "\n");
  const Json curve = {{"stage", stage.name}, {"losses", result.losses}};
  WriteFileAtomically(shop.scratch / (stage.name + ".losses.json"), curve.dump() + "\n");
  SaveSafetensors(file, ToHalf(result.weights), shop.Metadata(stage.name));
}

}  // namespace excise
