// What filters on finished pictures share: the CLIP whose image tower they read, and what is
// delivered instead of a blocked picture.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/params.h"
#include "datasets/formats/concept.h"
#include "models/nets/hooks.h"
#include "models/snapshots/backbone.h"

namespace excise {

// Parameters of every filter on CLIP embeddings.
struct ClipFilterParams {
  std::string clip, replacement;
  void Fields(ParamVisitor& v);
};

// The CLIP of the folder `clip` (a whole CLIPModel), or the backbone's own where it is "". Throws
// Error when the backbone has no image tower (as Stable Diffusion's text encoder); `method` asks.
ClipModel FilterClip(const Backbone& base, const std::string& clip, std::string_view method);

// images in [0,1] (batch, 3, h, w) of any size -> embeddings (batch, projection), not normalised.
// Differentiable.
at::Tensor FilterPictures(const ClipModel& clip, const at::Tensor& images);
// texts -> normalised embeddings (texts, projection), by the text tower in `weights`.
at::Tensor FilterTexts(const ClipModel& clip, const StateDict& weights,
                       const std::vector<std::string>& texts);
// exp of the tensor logit_scale.
double FilterLogitScale(const ClipModel& clip);
// log(p / (1 - p)): where the logit of a probability with threshold p stands.
double Logit(double p);

// Known names, each of them, of all concepts. Throws Error where a concept has none, or no anchor
// though one is needed.
void RequireTexts(const std::vector<Concept>& concepts, bool anchor, std::string_view method);

// A filter that reads nothing but the picture's embedding. It is its own Hooks.
class ClipFilter : public Hooks, public ImageFilter {
 public:
  // `replacement`: a picture's file, or "" (black).
  ClipFilter(ClipModel clip, double threshold, const std::string& replacement);
  const ImageFilter* Filter() const final { return this; }
  bool OnlyFilters() const final { return true; }
  at::Tensor Score(const at::Tensor& images) const final;
  at::Tensor Margin(const at::Tensor& images) const final;
  double Threshold() const final { return threshold_; }
  at::Tensor Replacement(int64_t height, int64_t width) const final;
  // embeds (batch, projection), not normalised -> (batch).
  virtual at::Tensor ScoreEmbeddings(const at::Tensor& embeds) const = 0;
  // Likewise, what Margin() says of them.
  virtual at::Tensor MarginEmbeddings(const at::Tensor& embeds) const;

 protected:
  const ClipModel& clip() const { return clip_; }

 private:
  ClipModel clip_;
  double threshold_;
  at::Tensor replacement_;  // float32 (3, h, w) in [0,1], or undefined
};

}  // namespace excise
