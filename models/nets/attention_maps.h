// Where in a picture a word is attended to: cross-attention probabilities of a U-Net by layer and
// token (Hertz et al., ICLR 2023, arXiv 2208.01626), and regions as each layer sees them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "models/formats/tokenizer.h"
#include "models/nets/hooks.h"

namespace excise {

// Positions of the tokens of `word` in the row that `text` becomes (0 is the start token), every
// place where it stands. Throws Error when the text does not hold it.
std::vector<int64_t> WordPositions(const Tokenizer& tokenizer, const std::string& text,
                                   const std::string& word);

// Keeps what the cross-attentions ("...attn2") of one forward pass give to the tokens at
// `positions`, and changes nothing. Gradients pass through what is kept.
class AttentionMaps : public LayerHooks {
 public:
  explicit AttentionMaps(std::vector<int64_t> positions) : positions_(std::move(positions)) {}
  bool WantsProbabilities(const std::string& name) const override;
  at::Tensor OnProbabilities(const std::string& name, at::Tensor probabilities) override;

  // By layer: (batch, heads, pixels, positions), in [0,1]. A further pass replaces them.
  const std::map<std::string, at::Tensor>& layers() const { return layers_; }
  // The mean over heads, positions and all layers that see the picture at (height, width): (batch,
  // height, width). Throws Error when there is no such layer.
  at::Tensor MeanMap(int64_t height, int64_t width) const;
  // Where that mean is large, for a picture of (height, width) latents, (batch, height, width) of 0
  // and 1: at least `threshold` of the way from its least to its most in the picture. Maps of a
  // quarter of the sides are read (Cao et al., ICCV 2023, arXiv 2304.08465), else of a half, else
  // of all.
  at::Tensor Region(int64_t height, int64_t width, double threshold) const;

 private:
  bool Sees(int64_t pixels) const;

  std::vector<int64_t> positions_;
  std::map<std::string, at::Tensor> layers_;
};

// A region (batch, height, width) in [0,1] as a layer of `pixels` sees it, (batch, pixels): the
// share of each of its pixels that lies in the region. `pixels` is height * width, or a quarter, a
// sixteenth, ... of it; throws Error where it is not.
at::Tensor RegionAt(const at::Tensor& region, int64_t pixels);

}  // namespace excise
