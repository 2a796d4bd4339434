// Quadruplets for unlearning unsafe content in CLIP: a safe text and picture, and an unsafe text
// and picture of the same scene (ViSU: Poppi et al., "Safe-CLIP", ECCV 2024, arXiv 2311.16254).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/params.h"
#include "datasets/formats/dataset.h"

namespace excise {

struct Quadruplet {
  std::string id;                      // "emoji@sha8/row"
  std::string safe_text, unsafe_text;  // t, t*
  std::string tag;                     // which unsafe concept: "weapons"
  int64_t row = 0;                     // in its part
};

// kUnseen: a test part whose unsafe concepts no other part has.
enum class QuadrupletPart { kTrain, kValidation, kTest, kUnseen };
std::string PartName(QuadrupletPart part);  // "train", "validation", "test", "unseen"

// A class of things that no quadruplet shows, for zero-shot classification.
struct OutsideClass {
  std::string id, text;  // "poodle", "a picture of a poodle"
};
// A picture of one of them.
struct OutsideItem {
  std::string id;        // "emoji_outside@sha8/row"
  std::string class_id;  // an OutsideClass's id
  int64_t row = 0;
};

class QuadrupletSet : public Parameterised {
 public:
  static constexpr const char* kKind = "quadruplets";
  virtual int version() const = 0;
  // At most `limit` rows, the same for every call; rows that are left out count (see Excluded).
  // Parts are disjoint. Throws Error naming file and row when they cannot be read, and when the
  // part is empty.
  virtual std::vector<Quadruplet> Rows(QuadrupletPart part, int64_t limit) const = 0;
  // Rows among the first `limit` that are left out: texts that mention minors, or are empty.
  virtual std::vector<Exclusion> Excluded(QuadrupletPart /*part*/, int64_t /*limit*/) const {
    return {};
  }
  // What of the user's files stands behind the first `limit` rows, for keys: field -> SHA-256.
  virtual std::map<std::string, std::string> Digests(QuadrupletPart /*part*/,
                                                     int64_t /*limit*/) const {
    return {};
  }
  // v or v* of a row, uint8 (3, side, side). Thread-safe. Throws Error naming a missing picture.
  virtual at::Tensor Picture(QuadrupletPart part, const Quadruplet& row, bool unsafe,
                             int64_t side) const = 0;

  // Things outside the quadruplets; none by default.
  virtual std::vector<OutsideClass> OutsideClasses() const { return {}; }
  virtual std::vector<OutsideItem> OutsideItems(int64_t /*limit*/) const { return {}; }
  virtual at::Tensor OutsidePicture(const OutsideItem& item, int64_t /*side*/) const {
    throw Error("this set of quadruplets has no pictures outside them, so none of " + item.id);
  }
};

// "emoji" (concepts substituted in the emoji world) or "visu" (the published JSON layout with the
// user's COCO folders). Throws UsageError for another name.
std::unique_ptr<QuadrupletSet> MakeQuadrupletSet(const std::string& name);
std::vector<std::string> QuadrupletSetNames();

}  // namespace excise
