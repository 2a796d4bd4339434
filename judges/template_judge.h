// A judge of emoji that is not learned: a picture shows the emoji whose rendering it correlates
// with best. It checks the learned judge on plain scenes (Cohen's kappa).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "datasets/emoji/emoji_world.h"

namespace excise {

// Every variant of every class is rendered at several sizes, mirrored or not, and cut out of its
// background (alpha a, premultiplied colour a T). For a picture I with background colour b (median
// of its border), over small shifts,
//
//   score = max < I - b, a (T - b) > / (|I - b| |a (T - b)|)
//
// so a template always stands on the picture's own background and uniform areas do not count.
class TemplateJudge {
 public:
  struct Match {
    std::string class_id;  // "" when no template reaches the threshold
    double score = 0;      // cosine, in [-1, 1]
    at::Tensor scores;     // float32 (classes): the best cosine of each; 0 of a uniform picture
  };

  // Below `threshold` a picture shows no class. Renders about 1,000 templates.
  static std::shared_ptr<const TemplateJudge> Build(const EmojiWorld& world,
                                                    double threshold = 0.7);

  // images uint8 (batch, 3, 64, 64), plain scenes.
  std::vector<Match> Report(const at::Tensor& images) const;

 private:
  Match ReportOne(const at::Tensor& image) const;  // float (3, 32, 32) in [0,1]

  double threshold_ = 0;
  std::vector<std::string> class_ids_;
  std::vector<int64_t> class_of_;  // of each template
  at::Tensor templates_;           // (templates, 4 * 32 * 32): a T (3 channels), a
  at::Tensor moments_;             // (templates, 7): sum (aT)^2, sum a^2 T (3 each), sum a^2
};

}  // namespace excise
