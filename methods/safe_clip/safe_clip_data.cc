#include "methods/safe_clip/safe_clip_data.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace excise {
namespace {

using E = QuadrupletEmbeds;

constexpr int64_t kPictureBytes = int64_t{1} << 29;  // of a part's pictures that are kept in memory

}  // namespace

PartReader::PartReader(const ClipTowers& towers, const QuadrupletSet& data, QuadrupletPart part,
                       int64_t limit)
    : vision_(towers.config.vision), data_(data), part_(part), rows_(data.Rows(part, limit)) {
  if (size() < 2) {
    throw Error(
        fmt::format("safe_clip: the part '{}' of the quadruplets has {} rows; the contrastive "
                    "terms need at least 2 to tell a pair from the others. Give more data, or "
                    "raise the limit of rows.",
                    PartName(part), size()));
  }
  std::vector<std::string> safe, unsafe;
  for (const Quadruplet& row : rows_) {
    safe.push_back(row.safe_text);
    unsafe.push_back(row.unsafe_text);
  }
  const int64_t length = towers.config.text.max_position_embeddings;
  safe_ids_ = TokenizeBatch(*towers.tokenizer, safe, length);
  unsafe_ids_ = TokenizeBatch(*towers.tokenizer, unsafe, length);
  const int64_t side = vision_.image_size;
  if (side * side <= kPictureBytes / (2 * 3 * size())) kept_.resize(rows_.size() * 2);
}

at::Tensor PartReader::Picture(int64_t row, bool unsafe) {
  at::Tensor* kept = kept_.empty() ? nullptr : &kept_[static_cast<size_t>(2 * row + unsafe)];
  if (kept != nullptr && kept->defined()) return *kept;
  const int64_t side = vision_.image_size;
  const Quadruplet& quadruplet = rows_[static_cast<size_t>(row)];
  const at::Tensor picture = data_.Picture(part_, quadruplet, unsafe, side);
  if (picture.scalar_type() != at::kByte || picture.sizes() != at::IntArrayRef({3, side, side})) {
    throw Error(
        fmt::format("safe_clip: the {} picture of quadruplet '{}' is {} of [{}], not uint8 of "
                    "[3, {}, {}].",
                    unsafe ? "unsafe" : "safe", quadruplet.id, c10::toString(picture.scalar_type()),
                    fmt::join(picture.sizes(), ", "), side, side));
  }
  if (kept != nullptr) *kept = picture;
  return picture;
}

at::Tensor PartReader::Pixels(const std::vector<int64_t>& rows, bool unsafe) {
  std::vector<at::Tensor> pictures;
  for (const int64_t row : rows) pictures.push_back(Picture(row, unsafe));
  return ClipPreprocess(vision_, at::stack(pictures).to(at::kFloat).div_(255.0));
}

QuadrupletBatch PartReader::Batch(const std::vector<int64_t>& rows, const SafeClipTermSet& terms) {
  QuadrupletBatch batch;
  const at::Tensor index = at::tensor(rows, at::kLong);
  // The safe ones are read for the reference as well.
  batch.safe_ids = safe_ids_.index_select(0, index);
  batch.unsafe_ids = unsafe_ids_.index_select(0, index);
  batch.safe_pixels = Pixels(rows, false);
  if (Reads(terms, &E::vision_unsafe)) batch.unsafe_pixels = Pixels(rows, true);
  return batch;
}

}  // namespace excise
