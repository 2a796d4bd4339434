#include "datasets/quadruplets/quadruplets.h"

#include "core/registry.h"
#include "datasets/quadruplets/emoji_quadruplets.h"
#include "datasets/quadruplets/visu_quadruplets.h"

namespace excise {

std::string PartName(QuadrupletPart part) {
  switch (part) {
    case QuadrupletPart::kTrain:
      return "train";
    case QuadrupletPart::kValidation:
      return "validation";
    case QuadrupletPart::kTest:
      return "test";
    default:
      return "unseen";
  }
}

std::vector<std::string> QuadrupletSetNames() { return {"emoji", "visu"}; }

std::unique_ptr<QuadrupletSet> MakeQuadrupletSet(const std::string& name) {
  if (name == "emoji") return MakeEmojiQuadruplets();
  if (name == "visu") return MakeVisuQuadruplets();
  ThrowUnknownName(QuadrupletSet::kKind, name, QuadrupletSetNames());
}

}  // namespace excise
