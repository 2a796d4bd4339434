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

std::string FormName(PromptForm form) {
  static const char* const kNames[] = {"string", "token_embeddings", "text_states"};
  return kNames[static_cast<int>(form)];
}

}  // namespace excise
