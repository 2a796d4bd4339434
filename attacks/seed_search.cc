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

#include "attacks/attack.h"
#include "attacks/tries.h"
#include "models/tensors/noise.h"

namespace excise {
namespace {

class SeedSearch : public Attack {
 public:
  void Fields(ParamVisitor& v) override {
    v.Integer("tries", &tries_, "noises drawn, each followed by a question to the oracle",
              {.min = 1, .max = 1000});
    v.Integer("lanes", &lanes_, "prompts attacked together in one pass, as in unlearn_diff_atk",
              {.min = 1, .max = 64});
  }
  int version() const override { return 1; }
  std::string control_of() const override { return "unlearn_diff_atk"; }
  std::map<std::string, Json> presets() const override {
    return {{"paper", {{"tries", 50}, {"lanes", 1}}}, {"smoke", {{"tries", 2}, {"lanes", 2}}}};
  }
  AttackTraits traits() const override {
    AttackTraits traits;
    traits.unmodified = true;  // for the shape of its latents
    traits.latents = true;
    traits.queries = tries_ + 1;
    traits.lanes = lanes_;
    return traits;
  }
  Work work(Acts) const override { return {{Pass::kPicture, static_cast<double>(tries_ + 1), 1}}; }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& seed) const override {
    Lanes one({&target});
    return CraftTogether(one, subject, {seed}).front();
  }

  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept&,
                                        const std::vector<Prompt>& seeds) const override {
    const UNetConfig& unet = lanes.any().Unmodified().unet_config;
    LaneSearch search(lanes, seeds);
    search.Try([&](size_t lane, int64_t) { return seeds[lane]; });
    for (int64_t i = 0; i < tries_ && search.Searches(); ++i) {
      search.Try([&](size_t lane, int64_t index) {
        ++lanes[lane]->ledger().candidate_evaluations;
        Prompt prompt = AdversarialPrompt(seeds[lane], "seed_search", index, seeds[lane].text);
        const at::Tensor noise = UnitNormal(search.NoiseRng(lane),
                                            {unet.in_channels, unet.sample_size, unet.sample_size});
        const float* begin = noise.data_ptr<float>();
        prompt.latents = {noise.sizes().vec(), {begin, begin + noise.numel()}};
        return prompt;
      });
    }
    return search.Take();
  }

 private:
  int64_t tries_ = 2, lanes_ = 10;
};

const Registration<Attack, SeedSearch> registration;

}  // namespace
}  // namespace excise
