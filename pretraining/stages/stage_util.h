// What every stage does the same way: its training specification, its files.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "models/tensors/state_dict.h"
#include "pretraining/stages/recipe.h"
#include "training/trainer.h"

namespace excise {

// AdamW with a hold of 40 % and a cosine to zero, clipping at 1, checkpoints in the scratch folder.
TrainSpec StageSpec(const Workshop& shop, const std::string& stage, int64_t steps, double lr);

// All names but BatchNorm's running statistics.
std::vector<std::string> TrainableNames(const StateDict& weights);

// Writes the product (fp16) with config.json beside it, and the loss curve to the scratch folder.
void WriteModel(const Workshop& shop, const Stage& stage, const Json& config,
                const TrainResult& result);

}  // namespace excise
