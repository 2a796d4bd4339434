// Espresso's filter as it stands after its removal: how texts decide on a picture, and the state
// that it is made of again.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "methods/clip_filter.h"
#include "methods/espresso/espresso_loss.h"
#include "models/tensors/state_dict.h"

namespace excise {

// What a filter is made of beside its CLIP. p_u = sigmoid of EspressoMargin with CLIP's logit scale
// over the temperature; a picture is blocked when p_u is above the threshold.
struct EspressoSettings {
  std::string rule;            // "softmax" | "projection"
  double threshold = 0.5;      // in (0,1); the state's, where it has one
  double temperature = 1;      // > 0
  std::string replacement;     // see ClipFilter
  bool reads_prompts = false;  // the filter's CLIP is the backbone's
};

// Texts of several concepts, one entry a concept, each (names, projection) and (acceptable texts,
// projection). Where lists of acceptable texts differ in length the shorter ones say their first
// text again, which changes no score.
StateDict EspressoState(const std::vector<at::Tensor>& unacceptable,
                        const std::vector<at::Tensor>& acceptable);
ConceptTexts TextsOf(const StateDict& state);
// Sets the threshold of p_u at which about the share `misses` in [0,1] of these pictures passes:
// that quantile, interpolated between neighbours. margins (pictures), of pictures that shall be
// blocked.
void SetThreshold(const at::Tensor& margins, double misses, StateDict* state);

std::shared_ptr<const Hooks> MakeEspressoFilter(ClipModel clip, EspressoSettings settings,
                                                const StateDict& state);

}  // namespace excise
