#include "methods/fine_tuning.h"

namespace excise {

std::vector<std::string> UNetLayers(const StateDict& unet, const std::string& layers) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : unet) {
    const std::string layer = name.substr(0, name.rfind('.'));
    if (!unet.Contains(layer + ".weight") || unet.Get(layer + ".weight").dim() < 2) continue;
    const auto has = [&, &name = name](const char* part) {
      return name.find(part) != std::string::npos;
    };
    const bool cross = has("attn2");
    if (layers == "full" || (layers == "x" && cross) || (layers == "u" && !cross) ||
        (layers == "attention" && (cross || has("attn1"))) ||
        (layers == "x_strict" && (has("attn2.to_k") || has("attn2.to_v")))) {
      names.push_back(name);
    }
  }
  return names;
}

void FineTuning::Fields(ParamVisitor& v) {
  v.Choice(
      "layers", &layers,
      "layers that move: x cross-attention, x_strict its keys and values only, attention self- "
      "and cross-attention, u all but cross-attention, full all",
      {"x", "x_strict", "attention", "u", "full"});
  v.Number("lr", &lr, "learning rate of " + optimizer, {.min = 0});
  v.Number("weight_decay", &weight_decay, "weight decay of " + optimizer, {.min = 0});
  v.Integer("iterations", &iterations, "gradient steps", {.min = 1});
  v.Integer("batch", &batch, "latents in a gradient step, of each kind", {.min = 1});
}

Passes FineTuning::Gradients(int64_t passes) const {
  return {Pass::kUNetGradient, static_cast<double>(iterations),
          static_cast<double>(passes * batch)};
}

Passes FineTuning::Evaluations() const {
  return {Pass::kUNet, static_cast<double>(iterations), static_cast<double>(batch)};
}

TrainSpec FineTuning::Spec(Context& context, const std::string& plugin) const {
  TrainSpec spec;
  spec.steps = iterations;
  spec.optimizer.name = optimizer;
  spec.optimizer.lr = lr;
  spec.optimizer.weight_decay = weight_decay;
  spec.checkpoint = context.CheckpointFile();
  spec.checkpoint_every = 50;
  spec.label = plugin;
  return spec;
}

Erased FineTuning::Train(Context& context, const Backbone& base, const TrainSpec& spec,
                         int64_t passes, const LossFunction& loss) const {
  const std::vector<std::string> names = UNetLayers(base.unet, layers);
  const TrainResult result = excise::Train(base.unet, names, spec, loss);
  // Counted from the settings, so that a resumed training reports what a straight one does.
  context.CountGradientSteps(iterations);
  context.CountUnetEvaluations(passes * iterations * batch);
  Erased erased;
  for (const std::string& name : names) erased.unet.Set(name, result.weights.Get(name));
  return erased;
}

}  // namespace excise
