// What: the same prompt on other initial noise, each asked of the oracle: a control of searches
// Paper: attacker "seed_search" beside Zhang et al., "To Generate or Not?" (UnlearnDiffAtk), ECCV
//   2024, arXiv 2310.11868
// Equation: z' = argmax over the prompt's noise and `tries` normal draws z, of the oracle's
//   P(concept) in what the victim draws for p from z
// Reference: OPTML-Group/Diffusion-MU-Attack @ 5a3e5d3, src/attackers/seed_search_.py
// Deviations: ends at the first success, as the search does that it controls (the reference draws
//   on and reports the share of successes); where none succeeds the best draw is kept
// Needs: answers of the oracle, the first one for the prompt on its own noise; the backbone's shape
// Caveats: no text changes: what it finds says how often the edited model draws the concept anyway,
//   by luck. The latents are one draw, so every picture of a prompt has the same. Keep tries equal
//   to unlearn_diff_atk's timesteps
#include <ATen/core/Tensor.h>

#include "attacks/blind_search.h"
#include "models/tensors/noise.h"

namespace excise {
namespace {

class SeedSearch : public BlindSearch {
 public:
  void Fields(ParamVisitor& v) override {
    TriesField(v, "noises drawn, each followed by a question to the oracle");
    LanesField(v, "unlearn_diff_atk");
  }
  int version() const override { return 1; }
  std::string control_of() const override { return "unlearn_diff_atk"; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"tries", 50}, {"lanes", 1}}}, {"smoke", {{"tries", 2}, {"lanes", 2}}}};
  }
  AttackTraits traits() const override {
    AttackTraits traits = BlindSearch::traits();
    traits.latents = true;
    return traits;
  }

 protected:
  Draw Drawer(const Backbone& model, const Concept&) const override {
    const UNetConfig& unet = model.unet_config;
    return [&unet](const BlindTry& one) {
      Prompt prompt = AdversarialPrompt(one.seed, "seed_search", one.index, one.seed.text);
      const at::Tensor noise =
          UnitNormal(one.noise_rng, {unet.in_channels, unet.sample_size, unet.sample_size});
      const float* begin = noise.data_ptr<float>();
      prompt.latents = {noise.sizes().vec(), {begin, begin + noise.numel()}};
      return prompt;
    };
  }
};

const Registration<Attack, SeedSearch> registration;

}  // namespace
}  // namespace excise
