#include "datasets/formats/dataset.h"

namespace excise {

std::string SplitName(Split split) {
  switch (split) {
    case Split::kErase:
      return "erase";
    case Split::kAttackSeed:
      return "attack_seed";
    case Split::kSelect:
      return "select";
    default:
      return "test";
  }
}

}  // namespace excise
