// Where methods of ESD's kind train: latents on the unmodified model's way from noise to guided
// pictures of a concept, and what it predicts there with the concept's text and without.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "core/params.h"
#include "methods/method.h"
#include "training/guided.h"

namespace excise {

struct ConceptPoints {
  at::Tensor latents;      // (n, channels, h, w)
  at::Tensor timesteps;    // (n)
  at::Tensor states;       // (n, tokens, width): of the text that was drawn
  at::Tensor text, empty;  // (n, channels, h, w): raw predictions with that text and without
  at::Tensor which;        // (n) int64: the row of `texts`
  // The rows that `rng` draws, with repetition.
  ConceptPoints Some(Philox rng, int64_t batch) const;
};

// A pool of whole trajectories, drawn once: the same distribution of timesteps as one partial run
// for every gradient step, and far fewer U-Net evaluations.
struct PointPool {
  int64_t trajectories = 32, sampling_steps = 20;
  double start_guidance = 3;

  void Fields(ParamVisitor& v);
  // What Draw computes, for Method::work.
  Passes work() const;
  // Trajectory j is of `texts` j modulo their number, (texts, tokens, width); `empty` (1, tokens,
  // width). Noise is of the streams PLUGIN/latents. U-Net evaluations are counted.
  ConceptPoints Draw(Context& context, const Backbone& base, const GuidedTrajectory& trajectory,
                     const at::Tensor& texts, const at::Tensor& empty,
                     const std::string& plugin) const;
};

// Unit normal noise of the model's latents, (channels, h, w).
at::Tensor UnitNormal(Context& context, const Backbone& base, std::string_view stream,
                      uint64_t step);

}  // namespace excise
