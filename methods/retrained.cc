// What: the gold standard: a U-Net that was trained without any picture of the concepts
// Paper: none; exact unlearning in the sense of Bourtoule et al., "Machine Unlearning", S&P 2021,
//   arXiv 1912.03817
// Equation: W = argmin E ||eps - eps_W(x_t, c, t)||^2 over the training set without the concepts
// Reference: none
// Deviations: text encoder and VAE are the base model's, which did see the concepts: only the part
//   that draws is retrained, so that text states and latents stay comparable
// Needs: the training data and a second training; FOLDER/retrained/unet beside the snapshot
// Caveats: one U-Net, trained without all benchmark concepts at once, stands for each of them; an
//   attack that "recovers" a concept from it proves nothing
#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include "core/error.h"
#include "methods/method.h"
#include "models/tensors/safetensors.h"

namespace excise {
namespace {

class Retrained : public Method {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MethodTraits traits() const override { return {{"training_data"}, true, "retrained/unet"}; }

  Erased Erase(Context&, const Backbone& base, const std::vector<Concept>&) const override {
    const std::filesystem::path folder = base.folder / traits().needs_folder;
    if (!std::filesystem::is_directory(folder)) {
      throw Error(fmt::format(
          "{}: no such folder, so method 'retrained' cannot run on backbone '{}'. Only the emoji "
          "backbone comes with a retrained U-Net; leave this method out with --methods.",
          folder.string(), base.name));
    }
    Erased erased;
    erased.unet = LoadSafetensorsFolder(folder, "diffusion_pytorch_model");
    for (const auto& [name, tensor] : base.unet) {
      if (!erased.unet.Contains(name)) {
        throw Error(fmt::format(
            "{}: tensor '{}' of the base U-Net is missing, so it is not a retrained copy of it. "
            "Train it again with //models:pretrain_emoji.",
            folder.string(), name));
      }
    }
    return erased;
  }
};

const Registration<Method, Retrained> registration;

}  // namespace
}  // namespace excise
