// Pictures that show no class, for the judges' reject class.
#pragma once

#include <functional>

#include "datasets/emoji/emoji_draw.h"

namespace excise {

// Kinds of garbage, each with its own way of showing nothing.
enum class GarbageKind : int {
  kNoise,      // uniform, Gaussian or low-frequency noise
  kFlat,       // a flat colour or a gradient
  kBlend,      // two or three scenes mixed at equal contrast, then blurred
  kScramble,   // patches of one or two scenes in random order
  kHalfNoise,  // a faint scene under strong low-frequency and pixel noise
  kBlob,       // a scene blurred until only a blob is left
  kWarp,       // a scene bent out of shape
};
constexpr int kNumGarbageKinds = 7;

// `draw` returns a random plain scene of a class other than those that it returned before for this
// picture.
FloatImage DrawGarbage(GarbageKind kind, Philox& rng, const std::function<FloatImage()>& draw);

}  // namespace excise
