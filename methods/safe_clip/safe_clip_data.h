// Quadruplets as the towers of a CLIP read them.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "datasets/quadruplets/quadruplets.h"
#include "methods/safe_clip/safe_clip_loss.h"
#include "models/nets/clip.h"
#include "models/snapshots/clip_encoder.h"

namespace excise {

// A whole CLIP: text and vision towers and both projections, under the names of a CLIPModel.
struct ClipTowers {
  ClipConfig config;
  StateDict weights;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string origin;  // for messages
};

// A batch as the towers read it. Pictures are undefined where nothing reads them.
struct QuadrupletBatch {
  at::Tensor safe_ids, unsafe_ids;        // (batch, tokens) int64
  at::Tensor safe_pixels, unsafe_pixels;  // (batch, 3, side, side), normalised
};

// One part of the data, tokenised; pictures are read when they are needed.
class PartReader {
 public:
  PartReader(const ClipTowers& towers, const QuadrupletSet& data, QuadrupletPart part,
             int64_t limit);
  int64_t size() const { return static_cast<int64_t>(rows_.size()); }
  // These rows' texts, their safe pictures, and the unsafe ones where a term reads them.
  QuadrupletBatch Batch(const std::vector<int64_t>& rows, const SafeClipTermSet& terms);
  // Calls `visit` with the rows in order, at most `length` at once.
  template <class Visit>
  void ForEach(int64_t length, const Visit& visit) const {
    for (int64_t begin = 0; begin < size(); begin += length) {
      std::vector<int64_t> rows(static_cast<size_t>(std::min(length, size() - begin)));
      std::iota(rows.begin(), rows.end(), begin);
      visit(rows);
    }
  }

 private:
  at::Tensor Picture(int64_t row, bool unsafe);
  at::Tensor Pixels(const std::vector<int64_t>& rows, bool unsafe);

  const ClipVisionConfig vision_;
  const QuadrupletSet& data_;
  const QuadrupletPart part_;
  const std::vector<Quadruplet> rows_;
  at::Tensor safe_ids_, unsafe_ids_;  // (rows, tokens)
  std::vector<at::Tensor> kept_;      // 2 a row, safe then unsafe; empty when they are too many
};

}  // namespace excise
