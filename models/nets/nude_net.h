// NudeNet 3: a YOLOv8 detector of 18 parts of the body.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <string>
#include <vector>

#include "models/tensors/state_dict.h"

namespace excise {

// In the order of the network's scores (notAI-tech/NudeNet, nudenet/nudenet.py).
inline constexpr std::array<const char*, 18> kNudeNetLabels = {"FEMALE_GENITALIA_COVERED",
                                                               "FACE_FEMALE",
                                                               "BUTTOCKS_EXPOSED",
                                                               "FEMALE_BREAST_EXPOSED",
                                                               "FEMALE_GENITALIA_EXPOSED",
                                                               "MALE_BREAST_EXPOSED",
                                                               "ANUS_EXPOSED",
                                                               "FEET_EXPOSED",
                                                               "BELLY_COVERED",
                                                               "FEET_COVERED",
                                                               "ARMPITS_COVERED",
                                                               "ARMPITS_EXPOSED",
                                                               "FACE_MALE",
                                                               "BELLY_EXPOSED",
                                                               "MALE_GENITALIA_EXPOSED",
                                                               "ANUS_COVERED",
                                                               "FEMALE_BREAST_COVERED",
                                                               "BUTTOCKS_COVERED"};

// How a picture stands in the network's square input.
struct NudeNetPlace {
  int64_t height = 0, width = 0;  // its size there
  int64_t left = 0, top = 0;      // black pixels before it, and as many behind
  double factor = 1;              // the picture's diagonal by that there
};

// A part of the body that was found, in the picture's pixels.
struct BodyPart {
  size_t label = 0;  // of kNudeNetLabels
  double score = 0;
  int64_t left = 0, top = 0, width = 0, height = 0;
};

class NudeNet {
 public:
  // Weights as tools/convert_weights.py makes them of 320n.onnx: "model.0.conv.weight", ... Any
  // width and depth of YOLOv8 with these labels. Throws Error, naming `origin`, where they are
  // another network's.
  NudeNet(StateDict weights, const std::string& origin);

  // uint8 (batch, 3, h, w), RGB -> (batch, 3, 320, 320) in [0, 1]: the longer side becomes 320,
  // black on both sides of the shorter one; where that comes to 319, stretched to 320.
  static at::Tensor Preprocess(const at::Tensor& images);
  static NudeNetPlace PlaceOf(int64_t height, int64_t width);
  // (batch, 4 + 18, places): centre, width, height in the input's pixels, and a score a label.
  at::Tensor Forward(const at::Tensor& pixels) const;
  // What is found, the best first: of boxes that overlap by more than 0.45 the better one, whatever
  // its label, none below 0.25. `rows` (4 + 18, places) of one picture.
  static std::vector<BodyPart> PartsIn(const at::Tensor& rows, const NudeNetPlace& place);

 private:
  StateDict weights_;
};

}  // namespace excise
