// What methods that fine-tune the U-Net share: which of its weights move, at which rate, for how
// long, and how the result is counted and returned.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/params.h"
#include "methods/method.h"
#include "training/trainer.h"

namespace excise {

// Weights and biases of linear and convolution layers by name: x of cross-attention, x_strict of
// its keys and values alone, attention of all attention, u of all but cross-attention, full of all.
// Norms never move.
std::vector<std::string> UNetLayers(const StateDict& unet, const std::string& layers);

struct FineTuning {
  std::string layers = "x";
  std::string optimizer = "adamw";  // the method's own: no parameter
  double lr = 2e-4, weight_decay = 0.01;
  int64_t iterations = 150, batch = 8;

  void Fields(ParamVisitor& v);
  // Of the whole training, with `passes` rows of the U-Net for each row of the batch.
  Passes Gradients(int64_t passes = 1) const;
  Passes Evaluations() const;  // a row without gradient for each
  TrainSpec Spec(Context& context, const std::string& plugin) const;
  // Trains those layers of `base` and counts `passes` U-Net evaluations for each row of a batch.
  Erased Train(Context& context, const Backbone& base, const TrainSpec& spec, int64_t passes,
               const LossFunction& loss) const;
};

}  // namespace excise
