// The search of pez (Wen et al., arXiv 2302.03668), shared by its transfer and its adaptive form
// and by the one that letters its pictures.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "attacks/attack.h"
#include "attacks/hard_prompt.h"
#include "attacks/victim_text.h"
#include "training/usable_tokens.h"

namespace excise {

struct PezSearch {
  // `own_target`: the attack says what is aimed at (target_kind), not the user.
  void Fields(ParamVisitor& v, bool own_target = false);
  static std::map<std::string, Json> Presets();
  static SearchSpace Space();
  Work work() const;
  AttackTraits traits() const;  // of the form that meets no victim
  // Minimises, over token sequences, 1 - cos(T(p), f) + lambda (1 - cos(V(p), f) + (m(p) + 0.02)+):
  // T the surrogate, V what the victim's U-Net gets, m the margin of its hooks; terms that `victim`
  // does not offer are left out, so lambda = 0 or no offer is the search of the paper. A prompt in
  // each of `lanes`; a trajectory each, empty where a lane has none. `edit`: what is done to the
  // pictures that are aimed at.
  std::vector<Trajectory> Run(std::string_view name, Lanes& lanes, const Concept& subject,
                              const std::vector<Prompt>& prompts, const VictimText& victim,
                              double lambda, const PictureEdit& edit = nullptr) const;

  int64_t prompt_len = 4, iterations = 100, restarts = 2, reference_images = 3, lanes = 10;
  double lr = 0.03, weight_decay = 0.1;
  std::string target_kind = "text", tokens = "printable";

 private:
  // What each lane's prompt should mean, (lanes, n, projection), normalised.
  at::Tensor Features(Lanes& lanes, const std::vector<Prompt>& prompts,
                      const PictureEdit& edit) const;
  // Where each lane starts, (lanes * restarts, prompt_len) ids.
  at::Tensor Starts(const TokenTable& table, std::vector<Philox>* rng) const;
};

}  // namespace excise
