// Two detectors of prompts that ask for a concept: one reads the prompt's text states, the other
// the picture that an early step of the unmodified model predicts.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/tensors/state_dict.h"

namespace excise {

// Looks whether a prompt's text states lie in the direction from a concept's anchor to one of its
// names. Features are states averaged over the tokens, which needs no token ids. Differentiable.
class TextDetector {
 public:
  // What is known of one concept; features (n, width) as of Features().
  struct Example {
    at::Tensor names;     // the concept's names
    at::Tensor anchor;    // (1, width)
    at::Tensor targets;   // prompts for the concept, n >= 1
    at::Tensor harmless;  // other prompts, n >= 1
  };
  // The threshold of each concept is halfway between the lowest score of a target and the highest
  // one of a harmless prompt. Throws Error when a name reads like the anchor.
  static TextDetector Fit(const std::vector<Example>& concepts);

  // (batch, tokens, width) -> (batch, width) float32.
  static at::Tensor Features(const at::Tensor& states);
  // (batch): max over names of cos(f - anchor, name - anchor) - halfway. Above 0 is nearer to the
  // targets; between -2 and 2.
  at::Tensor Score(const at::Tensor& states) const;

  // To and from Erased::hook_state, "text_detector.*"; nullopt where it has none.
  void Save(StateDict* out) const;
  static std::optional<TextDetector> Load(const StateDict& saved);

 private:
  at::Tensor anchors_, directions_;  // (names, width)
  at::Tensor halfway_;               // (names)
};

// A linear probe on the x0 that the model predicts early on.
class LatentDetector {
 public:
  // Ridge regression of +1 (targets) and -1 on standardised features, in closed form: both classes
  // weigh the same, so 0 is halfway. features (n, width) as of Features(); positive (n). `ridge` >
  // 0 relative to the features' unit variance. Throws Error without examples of both.
  static LatentDetector Fit(const at::Tensor& features, const std::vector<bool>& positive,
                            double ridge, double position);

  // x0 (batch, channels, h, w) -> (batch, width) float32: at most 8 x 8 cells a channel, and their
  // squares.
  static at::Tensor Features(const at::Tensor& x0);
  // (batch). Differentiable.
  at::Tensor Score(const at::Tensor& x0) const;
  // The step, of a run of `steps`, whose prediction it reads: the `position`-th part of the run,
  // but never the last step, after which nothing could be done.
  int64_t StepOf(int64_t steps) const { return StepAt(position_, steps); }
  static int64_t StepAt(double position, int64_t steps);

  // "latent_detector.*".
  void Save(StateDict* out) const;
  static std::optional<LatentDetector> Load(const StateDict& saved);

 private:
  at::Tensor weight_;  // (width) float32
  double bias_ = 0, position_ = 0;
};

}  // namespace excise
