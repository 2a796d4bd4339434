// What a piece of work is going to compute, counted in passes of the models. Multiplied by what a
// pass takes on a machine, it is how long the work takes there (experiments/run/forecast.h).
#pragma once

#include <cstdint>
#include <vector>

namespace excise {

// A call of a model: forward, or forward and backward (kUNetGradient, kTextGradient). kVision is
// CLIP's image tower. kPicture is a whole picture of the unmodified model, by the experiment's
// sampler.
enum class Pass { kUNet, kUNetGradient, kText, kTextGradient, kVision, kDecoder, kJudge, kPicture };

// `calls` of them, each on `rows` rows: latents, texts or pictures. Both may be an average.
struct Passes {
  Pass pass = Pass::kUNet;
  double calls = 0, rows = 1;
};
using Work = std::vector<Passes>;

// How a removal acts: by weights that it changed, by hooks while a picture is drawn, or as a filter
// on finished pictures, which are then the unmodified model's.
enum class Acts { kByWeights, kWhileDrawing, kOnPictures };

}  // namespace excise
